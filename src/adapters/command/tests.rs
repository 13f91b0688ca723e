//! Programs as jobs: run without a shell, watched, ended with what they started.

use super::*;
use crate::domain::at::At;
use crate::domain::plan::CONTROL;

fn job(run: &[&str], undo: &[&str]) -> Job {
    let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    Job {
        id: "warm".into(),
        title: "warm".into(),
        kind: JobKind::Command { run: owned(run), undo: owned(undo), repeatable: false },
        control: CONTROL.to_owned(),
        timeout_ms: 1_000,
    }
}

fn begin(token: &str, undo: bool) -> Begin {
    Begin { token: token.into(), since: At(0), undo, besides: None }
}

async fn ended(jobs: &CommandJobs, job: &Job, handle: &str) -> JobProgress {
    loop {
        let progress = jobs.progress(job, handle).await.unwrap();
        if progress.state != JobState::Running {
            return progress;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_program_prints_last_and_how_it_ends_is_kept() {
    let jobs = CommandJobs::default();
    let well = job(&["sh", "-c", "echo first; echo all warm"], &["sh", "-c", "echo cold >&2; exit 3"]);
    let handle = jobs.begin(&well, &begin("t1", false)).await.unwrap();
    assert_eq!(jobs.find(&well, &begin("t1", false)).await.unwrap(), Some(handle.clone()));
    let end = ended(&jobs, &well, &handle).await;
    assert_eq!((end.state, end.said.as_str()), (JobState::Done, "all warm"));
    let handle = jobs.begin(&well, &begin("t2", true)).await.unwrap();
    let end = ended(&jobs, &well, &handle).await;
    assert_eq!((end.state, end.said.as_str()), (JobState::Failed, "exit status: 3; cold"));
    // Arguments are handed over as they are: nothing is expanded.
    let plain = job(&["echo", "$HOME", "*"], &[]);
    let handle = jobs.begin(&plain, &begin("t3", false)).await.unwrap();
    assert_eq!(ended(&jobs, &plain, &handle).await.said, "$HOME *");
}

#[tokio::test]
async fn a_program_that_is_told_to_end_goes_with_what_it_started() {
    let jobs = CommandJobs::default();
    let long = job(&["sh", "-c", "sleep 600 & echo $!; wait"], &[]);
    let handle = jobs.begin(&long, &begin("t1", false)).await.unwrap();
    let child = loop {
        let progress = jobs.progress(&long, &handle).await.unwrap();
        if let Ok(pid) = progress.said.parse::<i32>() {
            break Pid::from_raw(pid).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    jobs.cancel(&long, &handle).await.unwrap();
    assert_eq!(ended(&jobs, &long, &handle).await.state, JobState::Failed);
    let runs = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
        state.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while runs() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    jobs.cancel(&long, &handle).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_before_and_when_it_is_run() {
    let jobs = CommandJobs::default();
    let absent = job(&["no-such-program-here"], &[]);
    assert_eq!(jobs.look(&absent).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(jobs.begin(&absent, &begin("t", false)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(jobs.look(&job(&["sh"], &[])).await.unwrap().ends_with("/sh"));
    assert_eq!(jobs.progress(&absent, "warm/t").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_program_may_print_what_it_likes_and_is_not_cut_off() {
    let jobs = CommandJobs::default();
    let script =
        "printf 'caf\\351\\n'; head -c 2000000 /dev/zero; printf '\\nafter\\n'; sleep 0.1; echo last || exit 9";
    let binary = job(&["sh", "-c", script], &[]);
    let handle = jobs.begin(&binary, &begin("t1", false)).await.unwrap();
    let end = ended(&jobs, &binary, &handle).await;
    assert_eq!((end.state, end.said.as_str()), (JobState::Done, "last"));
}

#[tokio::test]
async fn what_takes_no_notice_of_being_told_is_ended_with_its_leader_gone_and_only_then_is_it_over() {
    let jobs = CommandJobs::default();
    let script = "trap 'exit 0' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & wait";
    let deaf = job(&["sh", "-c", script], &[]);
    let handle = jobs.begin(&deaf, &begin("t1", false)).await.unwrap();
    let child = loop {
        let progress = jobs.progress(&deaf, &handle).await.unwrap();
        if let Ok(pid) = progress.said.parse::<i32>() {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    jobs.cancel(&deaf, &handle).await.unwrap();
    ended(&jobs, &deaf, &handle).await;
    let state = std::fs::read_to_string(format!("/proc/{child}/stat"));
    assert!(state.map_or(true, |stat| stat.contains(") Z ")), "it still runs");
}

#[tokio::test]
async fn what_a_program_leaves_at_work_goes_on_and_may_print() {
    let jobs = CommandJobs::default();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ticks");
    let script =
        format!("(sleep 0.4; echo tick; echo done > {}) & printf '10 %%\\r20 %%\\rstarted\\n'", file.display());
    let daemon = job(&["sh", "-c", &script], &[]);
    let handle = jobs.begin(&daemon, &begin("t1", false)).await.unwrap();
    let end = ended(&jobs, &daemon, &handle).await;
    assert_eq!((end.state, end.said.as_str()), (JobState::Done, "started"));
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
