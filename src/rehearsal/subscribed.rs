//! The payments day with its databases moved by the new server's own subscription.

/// What stands in the plan, and what is said behind it.
const SAID: [(&str, &str); 3] = [
    (
        "password = { file = \"${V1_PASSWORD_FILE}\" }\n",
        "subscriber = { host = \"${V1_HOST}\", port = \"${V1_PORT}\", password = { file = \"${V1_PASSWORD_FILE}\" }, sslmode = \
         \"disable\" }\n",
    ),
    ("to = \"v2.public.accounts\"\n", "mover = \"subscription\"\n"),
    ("to = \"v2.public.payments\"\n", "mover = \"subscription\"\n"),
];

/// The plan of that day, shortened or not, with its two tables of PostgreSQL moved by subscription.
///
/// # Panics
/// When the shipped plan does not say any more what is added to here; a test holds the two together.
#[must_use]
pub fn subscribed(plan: &str) -> String {
    SAID.iter().fold(plan.to_owned(), |text, (stands, more)| {
        assert!(text.contains(stands), "the plan has no {stands:?} any more");
        text.replace(stands, &format!("{stands}{more}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::Scenario;

    #[test]
    fn the_shipped_plan_says_what_is_added_to() {
        let said = subscribed(&Scenario::V1ToV2.plan());
        assert_eq!((said.matches("mover = ").count(), said.matches("subscriber = ").count()), (2, 1));
    }
}
