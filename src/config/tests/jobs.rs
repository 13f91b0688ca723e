//! Jobs and the steps that begin them.

use super::*;
use crate::domain::plan::{JobKind, Purpose, Resource, StepKind};

/// The example's day with jobs of every kind.
fn with_jobs(jobs: &str, steps: &str) -> String {
    let (before, after) = EXAMPLE.split_once("[[steps]]\nid = \"success\"").expect("the example's last step");
    format!("{before}{jobs}\n{steps}\n[[steps]]\nid = \"success\"{after}")
}

fn problems(jobs: &str, steps: &str) -> Vec<String> {
    problems_of(&with_jobs(jobs, steps)).into_iter().map(|(at, what, _)| format!("{at:?} {what}")).collect()
}

const JOBS: &str = r#"
[[jobs]]
id = "web"
instance_refresh = { group = "payments", min_healthy = 50, warmup = "90s" }
[[jobs]]
id = "last"
cluster_snapshot = { cluster = "payments-v1", name = "v1-final", tags = { Retention = "90d" } }
[[jobs]]
id = "warm"
command = ["./warm.sh", "--all"]
undo = ["./cool.sh"]
timeout = "5m"
[[jobs]]
id = "drop"
delete = { secret = "db-password-prod", recovery_days = 7 }
"#;

const STEPS: &str = r#"
[[steps]]
id = "restart"
kind = "restart"
jobs = ["web"]
at = "T+13:00"
[[steps]]
id = "final-backup"
kind = "backup"
jobs = ["last"]
at = "T+13:10"
[[steps]]
id = "warm-up"
kind = "command"
jobs = ["warm"]
at = "T+13:20"
[[steps]]
id = "well"
kind = "gate"
gate = "success"
at = "T+13:30"
[[steps]]
id = "delete-v1"
kind = "cleanup"
jobs = ["drop"]
at = "T+13:40"
confirm = { word = "DELETE-V1" }
two_person = true
"#;

#[test]
fn jobs_are_read_with_what_they_do_and_steps_that_begin_them() {
    let config = read(&with_jobs(JOBS, STEPS)).unwrap();
    let plan = &config.plan;
    assert_eq!(plan.jobs.len(), 4);
    let web = &plan.job("web").unwrap().kind;
    assert_eq!(*web, JobKind::InstanceRefresh { group: "payments".into(), min_healthy: 50, warmup_ms: Some(90_000) });
    let JobKind::ClusterSnapshot { tags, .. } = &plan.job("last").unwrap().kind else { panic!("a snapshot") };
    assert_eq!(tags["Retention"], "90d");
    assert_eq!((plan.job("warm").unwrap().timeout_ms, plan.job("web").unwrap().timeout_ms), (300_000, 3_600_000));
    let drop = JobKind::Delete(Resource::Secret { secret: "db-password-prod".into(), recovery_days: 7 });
    assert_eq!(plan.job("drop").unwrap().kind, drop);
    let step = plan.step("delete-v1").unwrap();
    assert_eq!(step.kind, StepKind::Jobs { purpose: Purpose::Cleanup, jobs: vec!["drop".into()] });
    assert_eq!(step.undo, "not at all: nothing leads back from here");
}

#[test]
fn what_a_job_lacks_or_has_too_much_of_is_said_where_it_stands() {
    for (jobs, steps, says) in [
        ("[[jobs]]\nid = \"x\"\n", "", "missing what the job does"),
        (
            "[[jobs]]\nid = \"x\"\ncommand = [\"a\"]\ntable_backup = { table = \"t\", name = \"n\" }\n",
            "",
            "exclude each other",
        ),
        ("[[jobs]]\nid = \"x\"\ndelete = { table = \"t\", cluster = \"c\" }\n", "", "one job deletes one thing"),
        ("[[jobs]]\nid = \"x\"\ndelete = { table = \"t\", final_snapshot = \"s\" }\n", "", "belongs to `cluster`"),
        (
            "[[jobs]]\nid = \"x\"\ntable_backup = { table = \"t\", name = \"n\" }\nundo = [\"a\"]\n",
            "",
            "that runs a `command`",
        ),
        ("[[jobs]]\nid = \"x\"\ninstance_refresh = { group = \"g\", min_healthy = 101 }\n", "", "from 0 to 100"),
        (
            "[[jobs]]\nid = \"x\"\ntable_backup = { table = \"t\", name = \"9-lives\" }\n",
            "",
            "must begin with a letter",
        ),
        ("[[jobs]]\nid = \"x\"\ndelete = { secret = \"s\", recovery_days = 3 }\n", "", "7 to 30 days"),
        ("[[jobs]]\nid = \"x\"\ncommand = [\"a\"]\ncontrol = \"mars\"\n", "", "no [control.mars]"),
        (JOBS, &STEPS.replace("jobs = [\"web\"]", "jobs = [\"wbe\"]"), "no job `wbe`"),
        (JOBS, &STEPS.replace("jobs = [\"web\"]", "jobs = [\"last\"]"), "is for steps of kind `backup`"),
        (JOBS, &STEPS.replace("jobs = [\"web\"]\n", ""), "needs it"),
        (JOBS, &STEPS.replace("kind = \"restart\"", "kind = \"smoke\""), "`jobs` is for steps of kind"),
    ] {
        let found = problems(jobs, steps);
        assert!(found.iter().any(|problem| problem.contains(says)), "{says}: {found:#?}");
    }
}

#[test]
fn a_clean_up_needs_a_gate_a_backup_a_word_and_a_second_person_and_nothing_after_it_that_may_need_the_old_side() {
    assert_eq!(problems(JOBS, STEPS), [""; 0]);
    let gate = "[[steps]]\nid = \"well\"\nkind = \"gate\"\ngate = \"success\"\nat = \"T+13:30\"\n";
    let backup = "[[steps]]\nid = \"final-backup\"\nkind = \"backup\"\njobs = [\"last\"]\nat = \"T+13:10\"\n";
    let restart = "[[steps]]\nid = \"restart\"\nkind = \"restart\"\njobs = [\"web\"]\nat = \"T+13:00\"\n";
    assert!(STEPS.contains(gate) && STEPS.contains(backup) && STEPS.contains(restart));
    let late = STEPS.replace(restart, "") + &restart.replace("T+13:00", "T+13:50");
    for (steps, says) in [
        (STEPS.replace("confirm = { word = \"DELETE-V1\" }\n", ""), "ask for a typed word"),
        (STEPS.replace("two_person = true\n", ""), "ask for a second person"),
        (late, "`restart` after it may need it"),
    ] {
        let found = problems(JOBS, &steps);
        assert!(found.iter().any(|problem| problem.contains(says)), "{says}: {found:#?}");
    }
    // A backup of something else keeps nothing of what is deleted.
    let bare = STEPS.replace(backup, "");
    let table = JOBS.replace("cluster_snapshot = { cluster = \"payments-v1\",", "table_backup = { table = \"v1\",");
    let table = table.replace(", tags = { Retention = \"90d\" }", "");
    for (jobs, steps, deletes, kept) in [
        (JOBS, STEPS, "cluster = \"payments-v1\"", true),
        (JOBS, &bare, "cluster = \"payments-v1\"", false),
        (JOBS, STEPS, "cluster = \"another\"", false),
        (JOBS, &bare, "cluster = \"another\", final_snapshot = \"last\"", true),
        (JOBS, STEPS, "instance = \"v1-a\", member_of = \"payments-v1\"", true),
        (JOBS, STEPS, "instance = \"v1-a\", member_of = \"another\"", false),
        (JOBS, STEPS, "instance = \"standalone\"", false),
        (&table, STEPS, "instance = \"v1-a\", member_of = \"payments-v1\"", false),
        (&table, STEPS, "table = \"v1\"", true),
        (&table, STEPS, "table = \"v2\"", false),
        (JOBS, STEPS, "table = \"v1\"", false),
    ] {
        let jobs = jobs.replace("secret = \"db-password-prod\", recovery_days = 7", deletes);
        let found = problems(&jobs, steps);
        assert_eq!(
            !found.iter().any(|p| p.contains("no `backup` step before it keeps")),
            kept,
            "{deletes}: {found:#?}"
        );
    }
}

#[test]
fn the_policy_allows_what_jobs_need_on_what_they_name() {
    let config = read(&with_jobs(JOBS, STEPS)).unwrap();
    let policy = crate::domain::plan::iam_policies(&config.plan, &[])[0].document().to_string();
    for allowed in [
        "autoscaling:StartInstanceRefresh",
        "autoScalingGroupName/payments",
        "rds:CreateDBClusterSnapshot",
        "cluster-snapshot:v1-final-*",
        "secretsmanager:DeleteSecret",
        "secret:db-password-prod-??????",
    ] {
        assert!(policy.contains(allowed), "{allowed}: {policy}");
    }
    assert!(!policy.contains("rds:DeleteDBCluster"), "no job deletes a cluster: {policy}");
}
