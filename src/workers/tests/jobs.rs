//! Jobs: begun once whatever happens, watched to their end, and what a rollback does about them.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::plan::plan_of_jobs;
use super::world::{Entry, World, until};
use crate::domain::plan::JobKind;
use crate::domain::run::{Event, no_way_back, rollback_plan, undo_jobs};
use crate::ports::{ErrorKind, JobState};
use crate::workers::{CapturedValues, WorkerContext};

async fn up_to(last: &str) -> (World, Arc<WorkerContext>) {
    World::with(plan_of_jobs()).up_to(last).await
}

/// How often each job was begun by the run, and by a rollback.
fn begun(world: &World, job: &str) -> (usize, usize) {
    let all = world.jobs.begun();
    let of = |undo: bool| all.iter().filter(|b| b.job == job && b.undo == undo).count();
    (of(false), of(true))
}

#[tokio::test]
async fn a_day_begins_each_job_once_and_goes_on_when_it_has_ended_well() {
    let (world, ctx) = up_to("delete").await;
    for job in ["backup", "web-us", "web-eu", "warm", "drop-books", "drop-authors"] {
        assert_eq!(begun(&world, job), (1, 0), "{job}");
    }
    assert!(world.jobs.begun().iter().all(|b| b.state == JobState::Done));
    let order: Vec<String> = world.jobs.begun().into_iter().map(|b| b.job).collect();
    assert_eq!(order[order.len() - 2..], ["drop-books", "drop-authors"], "a clean-up goes one by one");
    let state = world.journal.state();
    let evidence = &state.step("restart").unwrap().evidence;
    assert!(evidence[1].value.starts_with("Successful, after"), "{evidence:?}");
    assert_eq!(evidence[1].source, "eu:group web");
    // Each was on record before it was begun.
    assert_eq!(state.jobs.len(), 6);
    assert!(state.jobs.values().all(|begun| begun.handle.is_some()), "{:?}", state.jobs);
    ctx.stop().await;
}

#[tokio::test]
async fn a_beginning_whose_answer_was_lost_is_found_again_and_not_made_twice() {
    let (world, ctx) = up_to("switch").await;
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    let failed = world.perform(&ctx, "restart").await.unwrap_err();
    assert!(failed.message.contains("web-us"), "{failed:?}");
    world.well(&ctx, &["restart"]).await;
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_process_that_dies_while_a_job_runs_is_followed_by_one_that_waits_for_its_end() {
    let (world, ctx) = up_to("switch").await;
    let held = Latch::default();
    world.faults.put(Op::JobProgress, "web-us", 1, 1, Fault::Latch(held.clone()));
    let (of, step) = (Arc::clone(&ctx), world.plan.step("restart").unwrap().clone());
    let attempt = world.journal.start("restart");
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    held.caught().await;
    work.abort();
    let ctx = world.restart(ctx).await;
    held.release();
    world.well(&ctx, &["restart"]).await;
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_process_that_dies_between_the_service_and_the_record_begins_nothing_twice() {
    let (world, ctx) = up_to("switch").await;
    let held = Latch::default();
    // The service has begun it; the record says only that it was to be.
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    world.faults.put(Op::JobBegin, "web-eu", 0, 1, Fault::Latch(held.clone()));
    let (of, step) = (Arc::clone(&ctx), world.plan.step("restart").unwrap().clone());
    let attempt = world.journal.start("restart");
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    held.caught().await;
    until("web to be begun", || begun(&world, "web-us") == (1, 0)).await;
    work.abort();
    let ctx = world.restart(ctx).await;
    world.well(&ctx, &["restart"]).await;
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_job_that_fails_fails_its_step_after_all_have_ended_and_is_alone_begun_anew() {
    let (world, ctx) = up_to("switch").await;
    world.jobs.fails("web-us", 1);
    let failed = world.perform(&ctx, "restart").await.unwrap_err();
    assert!(failed.message.contains("Failed: no capacity"), "{failed:?}");
    assert!(world.jobs.begun().iter().all(|b| b.state != JobState::Running), "all have ended");
    world.well(&ctx, &["restart"]).await;
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((2, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_service_that_refuses_has_begun_nothing_and_one_that_is_silent_is_asked_again() {
    let (world, ctx) = up_to("switch").await;
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::Refuse(ErrorKind::Conflict));
    world.faults.put(Op::JobProgress, "web-eu", 0, 2, Fault::Refuse(ErrorKind::Throttled));
    world.perform(&ctx, "restart").await.unwrap_err();
    assert!(!world.journal.state().jobs.contains_key("web-us"), "it is on record that nothing was begun");
    world.well(&ctx, &["restart"]).await;
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_command_of_a_process_that_died_is_not_run_again_by_itself() {
    let (world, ctx) = up_to("restart").await;
    world.jobs.never_ends("warm");
    let (of, step) = (Arc::clone(&ctx), world.plan.step("after").unwrap().clone());
    let attempt = world.journal.start("after");
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    until("it to run", || begun(&world, "warm") == (1, 0)).await;
    work.abort();
    world.jobs.forget("warm");
    let ctx = world.restart(ctx).await;
    let failed = world.perform(&ctx, "after").await.unwrap_err();
    assert!(failed.message.contains("how far it came is not known"), "{failed:?}");
    assert_eq!(begun(&world, "warm"), (0, 0));
    // Somebody has looked, and says so by trying again.
    let attempt = world.journal.start("after");
    let (of, step) = (Arc::clone(&ctx), world.plan.step("after").unwrap().clone());
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    until("it to run again", || begun(&world, "warm") == (1, 0)).await;
    work.abort();
    ctx.stop().await;
}

#[tokio::test]
async fn a_rollback_restarts_once_more_with_the_values_that_are_back_and_before_customers_may_write() {
    let (world, ctx) = up_to("restart").await;
    world.jobs.never_ends("web-us");
    let held = Latch::default();
    world.faults.put(Op::JobBegin, "web-eu", 0, 1, Fault::Latch(held.clone()));
    ctx.begin_rollback();
    let captured = CapturedValues::default();
    let back = world.roll_back(&captured);
    let (report, ()) = tokio::join!(back, async {
        held.caught().await;
        assert_eq!((world.switches.now("/reads"), world.switches.now("/writes")), ("old".into(), "old".into()));
        assert_eq!(world.switches.now("/mode"), "frozen", "customers are let in when applications were started again");
        held.release();
    });
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!(world.switches.now("/mode"), "open");
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 1), (1, 1)));
    assert!(report.evidence.iter().any(|e| e.name == "job web-eu"), "{:?}", report.evidence);
    ctx.stop().await;
}

#[tokio::test]
async fn a_rollback_after_the_thaw_refuses_writes_while_applications_are_restarted() {
    let (world, ctx) = up_to("thaw").await;
    assert_eq!(world.switches.now("/mode"), "open");
    let held = Latch::default();
    world.faults.put(Op::JobBegin, "web-eu", 0, 1, Fault::Latch(held.clone()));
    ctx.begin_rollback();
    let captured = CapturedValues::default();
    let back = world.roll_back(&captured);
    let (report, ()) = tokio::join!(back, async {
        held.caught().await;
        assert_eq!((world.switches.now("/reads"), world.switches.now("/mode")), ("old".into(), "frozen".into()));
        held.release();
    });
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!(world.switches.now("/mode"), "open");
    // Once it is over there is nothing left to do.
    let ended = Event::RolledBack { took_ms: report.took_ms, evidence: report.evidence };
    world.journal.fact(ended).unwrap();
    assert!(rollback_plan(&world.plan, &world.journal.state()).is_empty());
    ctx.stop().await;
}

#[tokio::test]
async fn a_rollback_just_after_a_restart_restarts_anew_and_takes_the_other_one_for_none_of_its_own() {
    let (world, ctx) = up_to("restart").await;
    // The answer to the second beginning is lost: it is found again, and is not the one of the run.
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    // Nothing is begun by the first call here: what is found must not be the run's own.
    world.faults.put(Op::JobBegin, "web-eu", 0, 1, Fault::Refuse(ErrorKind::Throttled));
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 1), (1, 1)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_rollback_whose_freeze_is_refused_goes_on_and_says_so() {
    let (world, ctx) = up_to("thaw").await;
    world.faults.put(Op::SwitchSet, "mode", 0, 1, Fault::Refuse(ErrorKind::Throttled));
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!((world.switches.now("/reads"), world.switches.now("/mode")), ("old".into(), "open".into()));
    let said = |e: &Entry| matches!(e, Entry::Fact(Event::Note { text, .. }) if text.contains("not refused while"));
    assert!(world.journal.entries().iter().any(said));
    ctx.stop().await;
}

#[tokio::test]
async fn a_rollback_ends_what_still_runs_before_it_begins_it_once_more_and_undoes_commands() {
    let (world, ctx) = up_to("restart").await;
    world.jobs.never_ends("warm");
    let (of, step) = (Arc::clone(&ctx), world.plan.step("after").unwrap().clone());
    let attempt = world.journal.start("after");
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    until("it to run", || begun(&world, "warm") == (1, 0)).await;
    work.abort();
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    let states: Vec<(bool, JobState)> =
        world.jobs.begun().into_iter().filter(|b| b.job == "warm").map(|b| (b.undo, b.state)).collect();
    assert_eq!(states, [(false, JobState::Failed), (true, JobState::Done)]);
    assert_eq!(begun(&world, "backup"), (1, 0), "a backup is kept as it is");
    ctx.stop().await;
}

#[tokio::test]
async fn a_restart_that_cannot_be_had_keeps_nobody_locked_out_and_is_named() {
    let (world, ctx) = up_to("restart").await;
    world.faults.put(Op::JobBegin, "web-us", 0, 100, Fault::Refuse(ErrorKind::Denied));
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck.len(), 1, "{:?}", report.stuck);
    assert!(report.stuck[0].contains("web-us was not done once more"), "{:?}", report.stuck);
    assert_eq!((world.switches.now("/mode"), begun(&world, "web-eu")), ("open".into(), (1, 1)));
    ctx.stop().await;
}

#[tokio::test]
async fn nothing_leads_back_once_the_old_side_is_being_deleted() {
    let (world, ctx) = up_to("thaw").await;
    assert_eq!(no_way_back(&world.plan, &world.journal.state()), None);
    assert_eq!(undo_jobs(&world.plan, &world.journal.state(), false, false).len(), 3);
    world.faults.put(Op::JobBegin, "drop-authors", 0, 1, Fault::Refuse(ErrorKind::Denied));
    world.perform(&ctx, "delete").await.unwrap_err();
    let why = no_way_back(&world.plan, &world.journal.state()).unwrap();
    assert!(why.contains("delete has begun"), "{why}");
    // What is left is deleted by another try; what is gone is not begun again.
    world.well(&ctx, &["delete"]).await;
    assert_eq!((begun(&world, "drop-books"), begun(&world, "drop-authors")), ((1, 0), (1, 0)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_call_that_was_sent_twice_by_itself_and_refused_the_second_time_has_begun_one() {
    let mut plan = plan_of_jobs();
    // The backup comes first on that day.
    plan.steps.retain(|step| step.id != "go");
    let (world, ctx) = World::with(plan).up_to("arm").await;
    world.faults.put(Op::JobBegin, "backup", 0, 1, Fault::FailAfter(ErrorKind::Conflict));
    world.well(&ctx, &["keep"]).await;
    assert_eq!(begun(&world, "backup"), (1, 0));
    ctx.stop().await;
}

#[tokio::test]
async fn what_a_first_attempt_began_is_undone_though_a_second_one_was_refused() {
    let (world, ctx) = up_to("switch").await;
    world.jobs.fails("web-us", 1);
    world.perform(&ctx, "restart").await.unwrap_err();
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::Refuse(ErrorKind::Denied));
    world.perform(&ctx, "restart").await.unwrap_err();
    assert!(world.journal.state().jobs.contains_key("web-us"), "half of its instances were replaced");
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu")), ((1, 1), (1, 1)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_command_that_takes_longer_than_its_time_is_waited_for_and_not_run_beside_itself() {
    let mut plan = plan_of_jobs();
    plan.jobs.iter_mut().find(|job| job.id == "warm").unwrap().timeout_ms = 300;
    let (world, ctx) = World::with(plan).up_to("restart").await;
    world.jobs.never_ends("warm");
    for _ in 0..2 {
        let failed = world.perform(&ctx, "after").await.unwrap_err();
        assert!(failed.message.contains("has not ended"), "{failed:?}");
    }
    assert_eq!(begun(&world, "warm"), (1, 0));
    world.jobs.end("warm");
    world.well(&ctx, &["after"]).await;
    assert_eq!(begun(&world, "warm"), (1, 0));
    assert!(world.journal.state().open_intents.is_empty(), "{:?}", world.journal.state().open_intents);
    ctx.stop().await;
}

#[tokio::test]
async fn a_command_without_an_undo_is_ended_by_a_rollback() {
    let mut plan = plan_of_jobs();
    let warm = plan.jobs.iter_mut().find(|job| job.id == "warm").unwrap();
    warm.kind = JobKind::Command { run: vec!["warm".into()], undo: vec![], repeatable: false };
    let (world, ctx) = World::with(plan).up_to("restart").await;
    world.jobs.never_ends("warm");
    let (of, step) = (Arc::clone(&ctx), world.plan.step("after").unwrap().clone());
    let attempt = world.journal.start("after");
    let state = world.journal.state();
    let work = tokio::spawn(async move { of.perform(&step, attempt, &state).await });
    until("it to run", || begun(&world, "warm") == (1, 0)).await;
    work.abort();
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
    let warm: Vec<JobState> = world.jobs.begun().into_iter().filter(|b| b.job == "warm").map(|b| b.state).collect();
    assert_eq!(warm, [JobState::Failed], "ended, and nothing run besides");
    ctx.stop().await;
}

#[tokio::test]
async fn a_second_rollback_does_only_what_the_first_one_could_not() {
    let (world, ctx) = up_to("after").await;
    world.faults.put(Op::JobBegin, "web-us", 0, 1, Fault::Refuse(ErrorKind::Denied));
    ctx.begin_rollback();
    let first = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(first.stuck.len(), 1, "{:?}", first.stuck);
    world.journal.fact(Event::RollbackStuck { what: first.stuck }).unwrap();
    let left: Vec<String> =
        rollback_plan(&world.plan, &world.journal.state()).jobs.into_iter().map(|undo| undo.job).collect();
    assert_eq!(left, ["web-us"]);
    let second = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(second.stuck, [""; 0]);
    assert_eq!((begun(&world, "web-us"), begun(&world, "web-eu"), begun(&world, "warm")), ((1, 1), (1, 1), (1, 1)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_damaged_record_restarts_what_it_may_have_forgotten_and_runs_no_command_by_guess() {
    let (world, ctx) = up_to("switch").await;
    let in_doubt = undo_jobs(&world.plan, &world.journal.state(), true, true);
    let named: Vec<&str> = in_doubt.iter().map(|undo| undo.job.as_str()).collect();
    assert_eq!(named, ["warm", "web-us", "web-eu"]);
    ctx.begin_rollback();
    let report = world.roll_back_in_doubt(&CapturedValues::default()).await;
    assert_eq!(report.stuck.len(), 1, "{:?}", report.stuck);
    assert!(report.stuck[0].contains("whether it was run is not known"), "{:?}", report.stuck);
    assert_eq!((begun(&world, "web-us"), begun(&world, "warm")), ((0, 1), (0, 0)));
    ctx.stop().await;
}
