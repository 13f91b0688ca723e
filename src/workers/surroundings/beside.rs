//! What others made of the old database that no table brings along: jobs, publications, subscriptions, readers of its log.

use crate::ports::Surroundings;

/// Notes on all of it, each with what to do.
pub(super) fn notes(old: &Surroundings) -> Vec<String> {
    let (of, beside) = (&old.database, &old.beside);
    let mut notes = Vec::new();
    let mut tell = |names: &[String], says: &dyn Fn(&str) -> String| {
        if !names.is_empty() {
            notes.push(says(&names.join(", ")));
        }
    };
    tell(&beside.publications, &|names| {
        format!(
            "publications of the database {of} stay behind: {names}; whoever subscribes to them hears nothing more once customers \
             write to the new side: make them there, and their subscribers anew"
        )
    });
    tell(&beside.subscriptions, &|names| {
        format!(
            "subscriptions bring rows into the database {of}: {names}; they go on to write there, also while customers' writes \
             are frozen and after the switch: end them before the freeze, and subscribe on the new side"
        )
    });
    tell(&beside.slots, &|names| {
        format!(
            "others read the log of the database {of} by slots of their own, which stay behind: {names}; each of these readers \
             (Debezium, a warehouse) has to begin anew on the new side, where no place of this log means anything"
        )
    });
    match &beside.jobs {
        None => {}
        Some(jobs) if jobs.is_empty() => notes.push(format!(
            "pg_cron is installed in the database {of}, and our role sees no active job of it (each role sees its own): jobs stay \
             behind, and go on to write there; ask a superuser for SELECT * FROM cron.job"
        )),
        Some(jobs) => notes.push(format!(
            "{} active jobs of pg_cron stay behind in the database {of}, and go on to write there: {}; schedule them on the new \
             side with the switch, and end them here before the freeze",
            jobs.len(),
            jobs.join(", ")
        )),
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Beside;

    #[test]
    fn nothing_is_said_of_nothing_and_each_thing_with_what_to_do() {
        let mut old = Surroundings { database: "shop".into(), ..Surroundings::default() };
        assert_eq!(notes(&old), [""; 0]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        old.beside = Beside {
            jobs: Some(names(&["vacuum (0 3 * * *)"])),
            publications: names(&["feed", "all"]),
            subscriptions: names(&["prices"]),
            slots: names(&["debezium (pgoutput, read now)"]),
        };
        let said = notes(&old);
        for (said, part) in said.iter().zip([
            "publications of the database shop stay behind: feed, all;",
            "end them before the freeze",
            "debezium (pgoutput, read now)",
            "1 active jobs of pg_cron stay behind in the database shop, and go on to write there: vacuum (0 3 * * *)",
        ]) {
            assert!(said.contains(part), "{part}: {said}");
        }
        old.beside = Beside { jobs: Some(vec![]), ..Beside::default() };
        assert!(notes(&old)[0].contains("sees no active job"), "{:?}", notes(&old));
    }
}
