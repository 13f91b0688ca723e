//! The control socket at its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{mpsc, watch};

use super::*;

const PATIENCE: Duration = Duration::from_secs(120);

fn seat() -> (Handle, watch::Receiver<Option<RollbackOrder>>) {
    let (_, snapshots) = watch::channel(Arc::new(Snapshot { run: "r-1".to_owned(), ..Snapshot::default() }));
    let (orders, given) = watch::channel(None);
    (Handle::new(snapshots, mpsc::channel(1).0, Arc::new(orders), None, "alice".to_owned()), given)
}

/// A folder whose path no socket address holds.
fn deep(dir: &Path) -> PathBuf {
    let deep = (0..8).fold(dir.to_owned(), |path, i| path.join(format!("{i}-a-folder-with-a-long-name")));
    std::fs::create_dir_all(&deep).unwrap();
    assert!(deep.as_os_str().len() > LONGEST_PATH);
    deep
}

#[tokio::test]
async fn orders_reach_a_run_folder_however_long_its_path_is() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_owned(), deep(dir.path())] {
        let path = folder.join("control.sock");
        let (handle, mut given) = seat();
        let stop = CancellationToken::new();
        serve(&path, handle, stop.clone()).unwrap();
        assert!(path.exists(), "it is where everybody looks for it");
        let answer = ask(&path, &Ask::Status, PATIENCE).await;
        assert!(matches!(&answer, Some(Answer::Status(s)) if s.run == "r-1"), "{answer:?}");
        assert_eq!(ask(&path, &Ask::RollBack { by: "bob@b1".into() }, PATIENCE).await, Some(Answer::Taken));
        assert_eq!(given.borrow_and_update().as_ref().unwrap().by, Actor::Terminal("bob@b1".into()));
        stop.cancel();
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (handle, _given) = seat();
    serve(&path, handle, CancellationToken::new()).unwrap();
    let (read, mut write) = UnixStream::connect(&path).await.unwrap().into_split();
    let endless = tokio::spawn(async move {
        // Nobody reads for ever: at some time the other end is closed.
        while write.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let answer = line(&mut BufReader::new(read), LONGEST_ANSWER).await.unwrap().unwrap().unwrap();
    let answer: Answer = serde_json::from_slice(&answer).unwrap();
    assert!(matches!(&answer, Answer::Refused { why } if why.contains("longer than 65536 bytes")), "{answer:?}");
    endless.await.unwrap();
    // The socket serves on.
    assert!(ask(&path, &Ask::Status, PATIENCE).await.is_some());
}

#[tokio::test]
async fn lines_are_read_whole_up_to_the_longest() {
    let mut read = BufReader::with_capacity(4, &b"abc\n\nabcdef\nabcdefg\nrest"[..]);
    let mut next = async || line(&mut read, 6).await.unwrap();
    assert_eq!(next().await, Some(Ok(b"abc".to_vec())));
    assert_eq!(next().await, Some(Ok(vec![])));
    assert_eq!(next().await, Some(Ok(b"abcdef".to_vec())));
    assert_eq!(next().await, Some(Err(TooLong)));
}

#[tokio::test]
async fn an_accept_that_fails_is_asked_again_later_and_later() {
    let asked = AtomicU32::new(0);
    let accept = || {
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            match nth {
                0..9 | 10 => Err(std::io::Error::from(rustix::io::Errno::MFILE)),
                9 | 11 => Ok(()),
                _ => std::future::pending().await,
            }
        }
    };
    let (told, mut came) = mpsc::unbounded_channel();
    let waits = std::sync::Mutex::new(Vec::new());
    let wait = |pause: Duration| {
        waits.lock().unwrap().push(pause.as_millis());
        std::future::ready(())
    };
    let both = async {
        came.recv().await.unwrap();
        came.recv().await.unwrap();
    };
    tokio::select! {
        () = accepting(accept, |()| told.send(()).unwrap(), wait) => {}
        () = both => {}
    }
    assert_eq!(*waits.lock().unwrap(), [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 50]);
}
