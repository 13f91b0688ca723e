//! The shop's day with reads that go over to the new side little by little, before writes do.

/// What stands in the shop's plan, and what stands there instead.
const INSTEAD: [(&str, &str); 5] = [
    ("name = \"cloudshelf\"\n", "name = \"aurora-gradual\"\n"),
    (
        "parameter = \"/cloudshelf/prod/db/reads\"\nexpect = \"dynamodb\"\nto = \"postgresql\"\n",
        "parameter = \"/cloudshelf/prod/db/read-share\"\nramp = [10, 25, 50, 100]\neffect = \"2s\"\n",
    ),
    ("switches = [\"reads\", \"writes\", \"secret\", \"alias\"]", "switches = [\"writes\", \"secret\", \"alias\"]"),
    (
        "undo = \"reads, writes, secret and alias back to what they were\"",
        "undo = \"writes, secret and alias back to what they were\"",
    ),
    (
        "# Injected faults of the new side trip here, before writes are open again.\n",
        "# Between two shares of the reads: as good as before, with lag that readers of the new side do not notice.\n\
         [[gates]]\n\
         id = \"share-healthy\"\n\
         title = \"reads are as good as before\"\n\
         criteria = [\"read-p95 <= baseline + 20% + 400\", \"read-errors <= baseline + 1\", \"lag < 5\"]\n\
         hold = \"5s\"\n\
         give_up = \"30s\"\n\
         on_fail = \"step_back\"\n\n\
         # Injected faults of the new side trip here, before writes are open again.\n",
    ),
];

/// Before which step reads go over.
const BEFORE: &str = "[[steps]]\nid = \"go-no-go\"\n";

/// What the reads are compared with, measured while all of them are served by the old side.
const BASELINE: &str = "[[steps]]\nid = \"baseline\"\ntitle = \"measure the reads as they are\"\nat = \"T-00:42\"\n\
    takes = \"30s\"\nowner = \"operations\"\nkind = \"baseline\"\nsignals = [\"read-p95\", \"read-errors\"]\n\
    samples = 40\nwarm_up = 5\n\n";

/// The shares in the order of the day, with their planned times.
const SHARES: [(u8, &str, &str); 4] =
    [(10, "T-00:40", "T-00:39"), (25, "T-00:35", "T-00:34"), (50, "T-00:30", "T-00:29"), (100, "T-00:20", "T-00:19")];

/// That day's plan, of the shop's.
///
/// # Panics
/// When the shop's plan does not say any more what is replaced here; a test holds the two together.
#[must_use]
pub fn gradual(plan: &str) -> String {
    let steps: String = SHARES
        .iter()
        .map(|(share, at, judged)| {
            format!(
                "[[steps]]\nid = \"reads-{share}\"\ntitle = \"{share} % of the reads\"\nat = \"{at}\"\ntakes = \"10s\"\n\
                 owner = \"migration lead\"\nkind = \"switch\"\nto = {{ reads = \"{share} %\" }}\n\
                 undo = \"b: the share before; rollback: 0 %\"\n\n\
                 [[steps]]\nid = \"healthy-{share}\"\ntitle = \"reads at {share} %\"\nat = \"{judged}\"\ntakes = \"1m\"\n\
                 owner = \"operations\"\nkind = \"gate\"\ngate = \"share-healthy\"\n\n"
            )
        })
        .collect();
    let before = format!("{BASELINE}{steps}{BEFORE}");
    let all = INSTEAD.into_iter().chain([(BEFORE, before.as_str())]);
    all.fold(plan.to_owned(), |text, (stands, instead)| {
        assert!(text.contains(stands), "the plan has no {stands:?} any more");
        text.replace(stands, instead)
    })
}
