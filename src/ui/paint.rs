//! Writing to the terminal on a thread of its own: a terminal that takes nothing never delays a key.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use tokio::sync::mpsc;

use super::term::Terminal;

/// How long giving the terminal back may take before the screen ends without it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Notifications that wait to be written at most.
const NOTES: usize = 8;

/// What became of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Painted {
    /// This frame stands on the screen since then.
    Frame(u64, Instant),
    /// The terminal is gone.
    Gone,
}

/// What waits to be written: the newest frame, never a queue of them.
#[derive(Debug, Default)]
struct Slot {
    frame: Option<(u64, Buffer)>,
    title: Option<String>,
    bell: bool,
    /// Notifications for the desktop, as the terminal takes them.
    desktop: Vec<Vec<u8>>,
    whole: bool,
    stop: bool,
}

impl Slot {
    const fn is_empty(&self) -> bool {
        self.frame.is_none()
            && self.title.is_none()
            && !self.bell
            && self.desktop.is_empty()
            && !self.whole
            && !self.stop
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    slot: Mutex<Slot>,
    came: Condvar,
}

impl Mailbox {
    fn put(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.lock());
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Slot {
        let slot = self.came.wait_while(self.lock(), |s| s.is_empty());
        std::mem::take(&mut slot.unwrap_or_else(PoisonError::into_inner))
    }
}

/// The thread that owns the terminal. Dropped, it gives the terminal back in its own time.
#[derive(Debug)]
pub struct Painter {
    mailbox: Arc<Mailbox>,
    painted: mpsc::UnboundedReceiver<Painted>,
    next: u64,
}

impl Painter {
    /// Hands the terminal to a new thread.
    pub fn start(terminal: Terminal) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let (tell, painted) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&mailbox);
        std::thread::Builder::new().name("painter".to_owned()).spawn(move || paint(terminal, &theirs, &tell))?;
        Ok(Self { mailbox, painted, next: 0 })
    }

    /// Asks for a frame; one that was not written yet is forgotten. Says its number.
    pub fn frame(&mut self, buffer: Buffer) -> u64 {
        self.next += 1;
        let number = self.next;
        self.mailbox.put(|slot| slot.frame = Some((number, buffer)));
        number
    }

    /// Asks for a window title.
    pub fn title(&self, title: String) {
        self.mailbox.put(|slot| slot.title = Some(title));
    }

    /// Asks for the bell.
    pub fn bell(&self) {
        self.mailbox.put(|slot| slot.bell = true);
    }

    /// Asks for a notification of the desktop. A terminal that takes nothing gets the newest few once it does.
    pub fn desktop(&self, bytes: Vec<u8>) {
        self.mailbox.put(|slot| {
            if slot.desktop.len() == NOTES {
                slot.desktop.remove(0);
            }
            slot.desktop.push(bytes);
        });
    }

    /// Asks for the next frame to be written whole: something else wrote over the screen.
    pub fn whole(&self) {
        self.mailbox.put(|slot| slot.whole = true);
    }

    /// What became of it; `None` once the thread ended. Cancel-safe.
    pub async fn painted(&mut self) -> Option<Painted> {
        self.painted.recv().await
    }

    /// Gives the terminal back, and waits for that: not longer than a second, for a terminal may take nothing.
    pub async fn stop(mut self) {
        self.mailbox.put(|slot| slot.stop = true);
        let gone = async { while self.painted.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, gone).await;
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.mailbox.put(|slot| slot.stop = true);
    }
}

fn paint(terminal: Terminal, mailbox: &Mailbox, tell: &mpsc::UnboundedSender<Painted>) {
    // Bound after `tell` is borrowed: the terminal is restored before a waiting task learns that the thread ended.
    let mut terminal = terminal;
    let mut last = None;
    loop {
        let work = mailbox.take();
        if work.stop {
            return;
        }
        if let Err(e) = write(&mut terminal, &work, &mut last) {
            tracing::warn!("the terminal is gone: {e}");
            let _ = tell.send(Painted::Gone);
            return;
        }
        if let Some((number, _)) = work.frame {
            let _ = tell.send(Painted::Frame(number, Instant::now()));
        }
    }
}

fn write(terminal: &mut Terminal, work: &Slot, last: &mut Option<Buffer>) -> io::Result<()> {
    if let Some(title) = &work.title {
        terminal.set_title(title)?;
    }
    if work.whole {
        terminal.clear()?;
        *last = None;
    }
    if let Some((_, buffer)) = &work.frame
        && last.as_ref() != Some(buffer)
    {
        terminal.draw(|frame| {
            let area = frame.area();
            if area == buffer.area {
                frame.buffer_mut().clone_from(buffer);
                return;
            }
            // The size changed since this was drawn: what fits is shown until the next frame, due at once.
            for position in area.intersection(buffer.area).positions() {
                frame.buffer_mut()[position].clone_from(&buffer[position]);
            }
        })?;
        *last = Some(buffer.clone());
    }
    for note in &work.desktop {
        terminal.raw(note)?;
    }
    if work.bell {
        terminal.bell()?;
    }
    Ok(())
}
