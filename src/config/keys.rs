//! Every key the file may hold, with its kind and its words. The reader checks against this table and the
//! JSON schema is made from it, so the two cannot drift apart.

mod alerts;
mod jobs;

pub(super) use self::alerts::{ALERT_COMMANDS, ALERTS, ALERTS_ALONE, ALERTS_OF, METRICS, WEBHOOKS};
pub(super) use self::jobs::{CLUSTER_SNAPSHOT, DELETE, INSTANCE_REFRESH, INSTANCE_SNAPSHOT, JOBS, TABLE_BACKUP};
use Kind::{
    Bool, ColumnType, Confirm, Count, Duration, Free, Int, List, Map, Moment, Number, Offset, OneOf, Part, Path,
    Percents, Scalar, Secret, Statuses, Table, Text, TextOrTexts, Texts, Url, ValueRef, ValueRefs,
};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub doc: &'static str,
}

/// What a key's value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Text, not empty.
    Text,
    /// Text that may be empty.
    Free,
    /// `http://` or `https://`.
    Url,
    /// A path of attribute names: `"a.b"`, or a list of names when a name holds a dot.
    Path,
    /// A list of texts.
    Texts,
    /// One text, or a list of them.
    TextOrTexts,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text, number or boolean; kept as text.
    Scalar,
    Bool,
    /// Any whole number that is not negative.
    Int,
    /// A whole number from 1.
    Count,
    /// Any number that is not negative.
    Number,
    /// A list of HTTP statuses.
    Statuses,
    /// A list of percentages from 1 to 100.
    Percents,
    /// A list of texts or references, as for one value.
    ValueRefs,
    /// `250ms`, `30s`, `10m`, `4h`.
    Duration,
    /// `T-02:00`.
    Offset,
    /// RFC 3339 with an offset.
    Moment,
    /// `varchar(255)`.
    ColumnType,
    /// `{ env = … }`, `{ file = … }` or `{ parameter = … }`.
    Secret,
    /// Text, or a reference as for secrets.
    ValueRef,
    /// `"none"`, `"key"`, `"word"` or `{ word = … }`.
    Confirm,
    Table(&'static [Key]),
    List(&'static [Key]),
    /// A part of this very file, checked where it is laid over the rest.
    Part,
    /// A table whose keys are free names, each with a value of this kind.
    Map(&'static Kind),
}

const fn must(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, doc }
}

const fn may(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: false, doc }
}

pub(super) static ROOT: &[Key] = &[
    must("name", Text, "Short name of the migration; used in run folders and as the default typed word."),
    may(
        "environments",
        Map(&Part),
        "Several environments by name: what each says is laid over the rest of the file, and `--env` chooses one.",
    ),
    may("environment", Text, "What the environment is called on screen. Default: the name `production` or `test`."),
    may("production", Bool, "Whether mistakes here hurt customers. Default: true."),
    may(
        "t0",
        Moment,
        "T-0, the planned moment of the freeze, RFC 3339. Default: so that the first step starts at once.",
    ),
    may("downtime_budget", Duration, "Longest write interruption that still counts as success. Default: 5m."),
    may("aws", Table(AWS), "Where DynamoDB, SSM, API Gateway and CloudWatch are."),
    may("postgres", Table(POSTGRES), "Where the target database is; or name both ends under `stores`."),
    may(
        "stores",
        Map(&Table(STORE)),
        "Stores by name. Tables come from `old` and go to `new` unless they say otherwise.",
    ),
    may("control", Map(&Table(CONTROL)), "Further regions and accounts where switches stand, by name."),
    may("load", Table(LOAD), "How the bulk load runs."),
    may("follow", Table(FOLLOW), "How changes are followed."),
    may("verify", Table(VERIFY), "How both sides are compared."),
    may("reverse", Table(REVERSE), "How writes of the new side are carried back, so that a rollback loses none."),
    may("tables", List(TABLES), "Tables that move."),
    may(
        "moves",
        List(MOVES),
        "Tables that move by rule, as their store has them; one under `tables` or `stays` goes by what stands there.",
    ),
    may("stays", List(STAYS), "Tables that are watched and never moved."),
    may("switches", List(SWITCHES), "Everything that can be switched, the freeze parameter included."),
    may("freeze", Table(FREEZE), "How writes are frozen and thawed."),
    may("probes", List(PROBES), "HTTP probes."),
    may("signals", List(SIGNALS), "Watched numbers with limits."),
    may("gates", List(GATES), "Conditions that must hold."),
    may("jobs", List(JOBS), "Work that somebody else does and steps begin: restarts, backups, commands, deletions."),
    may("alerts", List(ALERTS), "Who is told of what."),
    may("metrics", Table(METRICS), "Numbers of the run for Prometheus."),
    must("steps", List(STEPS), "The runbook, in order."),
];

pub(super) static AWS: &[Key] = &[
    must("region", Text, "AWS region."),
    may(
        "profile",
        Text,
        "Named profile: its credentials and no others, whatever stands in the environment. Default: the usual chain.",
    ),
    may("account", Text, "The account id that calls must be signed for, 12 digits; with another one nothing is begun."),
    may(
        "credentials",
        OneOf(CREDENTIALS),
        "`chain` (default), or `emulator` for fixed keys that only an emulator takes.",
    ),
    may("endpoint", Url, "One endpoint for every service, for emulators."),
    may("endpoints", Table(ENDPOINTS), "Endpoints by service; they win over `endpoint`."),
];
pub(super) static CONTROL: &[Key] = &[
    may("region", Text, "AWS region. Default: that of `[aws]`."),
    may("profile", Text, "Named profile. Default: that of `[aws]`."),
    may("account", Text, "The account id that calls must be signed for. Default: that of `[aws]`."),
    may("credentials", OneOf(CREDENTIALS), "As under `[aws]`. Default: those of `[aws]`."),
    may("endpoint", Url, "One endpoint for every service. Default: those of `[aws]`."),
    may("endpoints", Table(ENDPOINTS), "Endpoints by service; they win over `endpoint`."),
];

pub(super) static CREDENTIALS: &[&str] = &["chain", "emulator"];

pub(super) static ENDPOINTS: &[Key] = &[
    may("dynamodb", Url, "DynamoDB."),
    may("streams", Url, "DynamoDB Streams. Default: the DynamoDB endpoint, if one is given."),
    may("ssm", Url, "Systems Manager Parameter Store."),
    may("apigateway", Url, "API Gateway."),
    may("cloudwatch", Url, "CloudWatch."),
    may("autoscaling", Url, "Auto Scaling."),
    may("rds", Url, "RDS."),
    may("secretsmanager", Url, "Secrets Manager."),
    may("sts", Url, "Security Token Service, which says whose account calls are signed for."),
];

pub(super) static POSTGRES: &[Key] = &[
    must("host", Text, "Host name of the server itself, not of a pooler; or the folder of a Unix socket."),
    may("port", Count, "Port. Default: 5432."),
    must("database", Text, "Database."),
    must("user", Text, "User."),
    may("password", Secret, "Where the password is found; never the password itself."),
    may("sslmode", OneOf(SSLMODES), "`verify-full` (default), `require` or `disable`."),
    may("ca_file", Text, "PEM file with the certificate authority, relative to this file. Default: the system's."),
    may("pool", Count, "Most connections at once. Default: 12."),
    may("subscriber", Table(SUBSCRIBER), "Only of a store that tables come from: see `stores`."),
];
pub(super) static STORE: &[Key] = &[
    must("kind", OneOf(STORE_KINDS), "`dynamodb` or `postgresql`."),
    may("region", Text, "DynamoDB: AWS region. Default: that of `[aws]`."),
    may("profile", Text, "DynamoDB: named profile. Default: that of `[aws]`."),
    may("account", Text, "DynamoDB: the account id that calls must be signed for. Default: that of `[aws]`."),
    may("credentials", OneOf(CREDENTIALS), "DynamoDB: as under `[aws]`. Default: those of `[aws]`."),
    may("endpoint", Url, "DynamoDB: one endpoint for tables and streams. Default: those of `[aws]`."),
    may("endpoints", Table(ENDPOINTS), "DynamoDB: endpoints by service; they win over `endpoint`."),
    may("host", Text, "PostgreSQL: host name of the server itself, not of a pooler; or the folder of a Unix socket."),
    may("port", Count, "PostgreSQL: port. Default: 5432."),
    may("database", Text, "PostgreSQL: database."),
    may("user", Text, "PostgreSQL: user."),
    may("password", Secret, "PostgreSQL: where the password is found; never the password itself."),
    may("sslmode", OneOf(SSLMODES), "PostgreSQL: `verify-full` (default), `require` or `disable`."),
    may("ca_file", Text, "PostgreSQL: PEM file with the certificate authority, relative to this file."),
    may("pool", Count, "PostgreSQL: most connections at once. Default: 12."),
    may(
        "subscriber",
        Table(SUBSCRIBER),
        "PostgreSQL: how the server of the target reaches this one, for `mover = \"subscription\"`.",
    ),
];
pub(super) static SUBSCRIBER: &[Key] = &[
    must("host", Text, "Host name or address of this server as the target's server reaches it."),
    may("port", Count, "Port. Default: that of the store."),
    may("user", Text, "User the target's server signs in as, with REPLICATION. Default: that of the store."),
    may(
        "password",
        Secret,
        "Where that user's password is found. It is stored in the target's catalogue, where superusers read it. Default: the target's server finds it in a password file of its own.",
    ),
    may("sslmode", OneOf(SSLMODES), "`verify-full` (default), `require` or `disable`."),
    may("ca_file", Text, "File with the certificate authority, as the target's server names it."),
];
pub(super) static STORE_KINDS: &[&str] = &["dynamodb", "postgresql"];

pub(super) static SSLMODES: &[&str] = &["disable", "require", "verify-full"];

pub(super) static REFERENCE: &[Key] = &[
    may("env", Text, "An environment variable."),
    may("file", Text, "A file; a trailing newline is cut."),
    may("parameter", Text, "An SSM parameter, decrypted."),
];

pub(super) static LOAD: &[Key] = &[
    may("segments", Count, "Segments a table's scan is split into. Default: by its size, 8 to 256."),
    may("workers", Count, "Segments read at the same time. Default: 4."),
    may("read_budget_rcu", Number, "Read capacity units a second over all workers. Default: unlimited."),
    may(
        "write_budget_wcu",
        Number,
        "Write capacity units a second that the load may take of all DynamoDB targets together, indexes included. Default: unlimited.",
    ),
    may(
        "defer_indexes",
        Bool,
        "Build secondary indexes of empty tables after their rows are in. Default: only for tables made from `ddl`.",
    ),
    may(
        "sequences_by_hand",
        Texts,
        "Sequences, with their schema, that you advance yourself, in the target before the switch and at a PostgreSQL source after a rollback: `public.orders_number_seq`.",
    ),
];

pub(super) static FOLLOW: &[Key] = &[
    may(
        "poll",
        Duration,
        "Pause between two reads of an idle shard; a busy one is read at once or soon. Default: 250ms.",
    ),
    may("batch", Count, "Most changes gathered for one transaction; with lanes, for each. Default: 1000."),
    may(
        "lanes",
        Count,
        "Lanes a table's changes are split into by key when there are many, each a connection. Default: 4.",
    ),
    may("marker_every", Duration, "How often a marker measures the round trip. Default: 5s."),
];

pub(super) static REVERSE: &[Key] = &[
    may("enabled", Bool, "Whether they are carried back. Default: true."),
    may("poll", Duration, "Pause between two looks into an empty outbox. Default: 250ms."),
    may("batch", Count, "Most records taken at a time; from 200 on, a PostgreSQL source takes 1,000. Default: 200."),
    may("settle", Duration, "How long nothing may arrive before a rollback counts as drained. Default: 3s."),
    may(
        "patience",
        Duration,
        "How long a rollback carries without what waits growing less; then it says what is left. Default: 2m.",
    ),
];

pub(super) static VERIFY: &[Key] = &[
    may("floor", Number, "Share of rows that must match, 0 to 1. Default: 0.999."),
    may("settle", Duration, "How long a difference must stand before it counts. Default: 5s."),
    may("segments", Count, "Segments each side is read in. Default: 8."),
    may("list_limit", Int, "Most differing keys that are listed. Default: 100."),
    may(
        "continuous",
        Bool,
        "Compare over and over while changes are followed, within the read budget. Default: false.",
    ),
    may("every", Duration, "Pause between two passes over all tables. Default: 10m."),
    may("stale", Duration, "A clean pass older than this proves nothing any more. Default: 4h."),
];

pub(super) static TABLES: &[Key] = &[
    must("id", Text, "Short name on every screen."),
    may("source", Text, "The table's name at the store `old`; or say `from`."),
    may("from", Text, "Store and table it comes from: `old.public.books`."),
    may("target", Text, "The table's name at the store `new`. Default: the id."),
    may("to", Text, "Store and table it goes to: `new.public.books`."),
    must("key", Texts, "Source attributes that make the key: partition key, then sort key if any."),
    may("ttl", Text, "The TTL attribute at the source; its deletes are counted as expired."),
    may(
        "marker_prefix",
        Text,
        "Key of marker items: this text and a nonce; where the key is a number, one between 9.0 and 9.2 times 10^18. Default: `cutover-marker-`.",
    ),
    may(
        "ddl",
        Text,
        "File that creates the target table, relative to this file: SQL, or for DynamoDB the JSON that `CreateTable` takes. With `like`: `source`, as the source's table is made.",
    ),
    may("ddl_sql", Text, "Statements that create the target table."),
    may(
        "kms_key",
        Text,
        "Key of KMS that encrypts a DynamoDB table which is made: id, alias or ARN. Default: the account's own for DynamoDB where the source has one.",
    ),
    may(
        "triggers",
        Texts,
        "Triggers of the target table and its child tables that may fire on loaded and followed rows; any other is refused.",
    ),
    may("columns", Map(&Table(COLUMN)), "Target columns in insert order."),
    may(
        "leave_out",
        Texts,
        "Source columns that do not move. Of a PostgreSQL source each column that no column of the target reads must stand here. With `like`: indexes of the source that the target does without.",
    ),
    may(
        "like",
        OneOf(LIKES),
        "`same`: items go from one DynamoDB table to another as they are. Key attributes are text unless `columns` says otherwise.",
    ),
    may("children", List(CHILDREN), "Lists that become rows of their own."),
    may("foreign_keys", List(FOREIGN_KEYS), "References to other target tables; parents load first."),
    may("mover", OneOf(MOVERS), MOVER),
];
/// Who may move rows in place of the console.
pub(super) static MOVERS: &[&str] = &["subscription"];
const MOVER: &str = "What moves the rows in place of the console: `subscription`, the logical subscription of the target's own PostgreSQL server. Default: the console.";

pub(super) static MOVES: &[Key] = &[
    may("from", Text, "The store they come from. Default: `old`."),
    may("to", Text, "The store they go to, under the same names. Default: `new`."),
    must(
        "include",
        Texts,
        "Patterns of names that move, `*` for any text and `?` for one character: `public.*`; a DynamoDB table has no schema.",
    ),
    may("exclude", Texts, "Patterns of names that do not, though they are included."),
    must("like", OneOf(LIKES), "`same`: the same names and types, between two stores of one kind."),
    may(
        "ddl",
        OneOf(MOVE_DDL),
        "`source` (default) makes missing tables as the source has them, those of PostgreSQL by its `pg_dump`; `none` expects them to be there.",
    ),
    may(
        "kms_key",
        Text,
        "Key of KMS that encrypts DynamoDB tables which are made. Default: the account's own for DynamoDB where the source has one.",
    ),
    may("mover", OneOf(MOVERS), MOVER),
];
pub(super) static MOVE_DDL: &[&str] = &["source", "pg_dump", "none"];

pub(super) static LIKES: &[&str] = &["same"];

pub(super) static COLUMN: &[Key] = &[
    must("type", ColumnType, "The column's PostgreSQL type."),
    may(
        "from",
        Path,
        "Source attribute, dots for nested ones; a name that holds a dot or a bracket in double quotes. Default: the \
         column's own name.",
    ),
    may("constant", Scalar, "The same value in every row."),
    may("parent", Text, "In a child table: the parent's key attribute."),
    may("ordinal", Bool, "In a child table: the position in the list, from 0."),
    may("element", Bool, "In a child table of plain values: the element itself."),
    may("default", Scalar, "What stands in when the attribute is absent or null. Default: NULL."),
    may("required", Bool, "Park the row when the attribute is absent or null."),
    may("key", Bool, "Part of the target's primary key."),
    may(
        "unit",
        OneOf(UNITS),
        "For `timestamptz`: what numbers count from 1970 on, `s`, `ms` or `us`. Default: numbers are parked.",
    ),
    may(
        "between",
        Texts,
        "Two days: numbers that mean a moment outside are parked. Default: 1900 to 2199, and what the next coarser unit \
         explains as well.",
    ),
    may("lossy", Bool, "Values may be rounded or cut to what the type holds. Default: false, their rows are parked."),
    may("sparse", Bool, "So few items have the attribute that a sample may show none. Default: false."),
];
pub(super) static UNITS: &[&str] = &["s", "ms", "us"];

pub(super) static CHILDREN: &[Key] = &[
    must("target", Text, "The child table's name in the target."),
    must("list", Path, "The list attribute."),
    must("parent_key", Texts, "Child columns that hold the parent's key, in the parent's key order."),
    must("columns", Map(&Table(COLUMN)), "Child columns in insert order."),
    may("sparse", Bool, "So few items have the list that a sample may show none. Default: false."),
];

pub(super) static FOREIGN_KEYS: &[Key] =
    &[must("columns", Texts, "Columns here."), must("references", Text, "Id of the table they point at.")];

pub(super) static STAYS: &[Key] = &[
    must("id", Text, "Short name on screen."),
    may("source", Text, "Its name at the store `old`; or say `from`."),
    may("from", Text, "Store and table: `old.carts`."),
];

pub(super) static SWITCHES: &[Key] = &[
    must("id", Text, "Short name."),
    may("title", Text, "Words for the screen. Default: the id."),
    may(
        "positions",
        List(POSITIONS),
        "Its positions in order, where it has more than two values: the first is where it stands now. Steps set it with \
         `to = { ID = \"POSITION\" }`.",
    ),
    may(
        "ramp",
        Percents,
        "Instead of `positions`: percent of the reads that the new side serves, one position each. The position `0 %` stands \
         before them.",
    ),
    may("places", List(PLACES), "Where a switch with positions is kept, if in several places: all are set together."),
    may(
        "effect",
        Duration,
        "How long readers of a switch with positions may go on with the value before. Default: 0s.",
    ),
    may("value", Free, PLACE_VALUE),
    may("values", ValueRefs, PLACE_VALUES),
    may("parameter", Text, "Name of the SSM parameter."),
    may("secure", Bool, "The parameter is a SecureString: its value is never shown. Default: false."),
    may("stage_variable", Table(STAGE_VARIABLE), "The API Gateway stage variable."),
    may("control", Text, "In which region and account: a name under `control`. Default: those of `[aws]`."),
    may("expect", Text, "The value that must stand there before the switch."),
    may("to", ValueRef, TO),
    may(
        "exercise",
        Bool,
        "Write the value over itself at the arm step, to know before the freeze that it can be set. Default: true.",
    ),
];

/// What a switch without positions needs.
pub(super) const TO: &str = "The value to set: text, or a reference for secrets.";
const PLACE_VALUE: &str = "The value in every position, of a switch that has several: `{position}` is the position's name (of a ramp the \
     number), `{share}` its percentage. Default: `{position}`.";
const PLACE_VALUES: &str = "Instead of `value`: one for each position, text or a reference for secrets.";

pub(super) static POSITIONS: &[Key] = &[
    must("name", Text, "Its name: what steps set the switch to."),
    may(
        "reads",
        OneOf(SIDES),
        "Who serves reads in it: `old`, `new` or `both`. Leave it out if the switch decides nothing of reads.",
    ),
    may(
        "writes",
        OneOf(SIDES),
        "Who takes writes in it: `old`, `new` or `both`. Leave it out if the switch decides nothing of writes.",
    ),
    may("share", Count, "Percent of the reads that the new side serves, where `reads` is `both`."),
];

pub(super) static PLACES: &[Key] = &[
    may("id", Text, "Short name. Default: that of the switch and its number."),
    may("title", Text, "Words for the screen. Default: those of the switch."),
    may("parameter", Text, "Name of the SSM parameter."),
    may("secure", Bool, "The parameter is a SecureString: its value is never shown. Default: false."),
    may("stage_variable", Table(STAGE_VARIABLE), "The API Gateway stage variable."),
    may("control", Text, "In which region and account: a name under `control`. Default: those of `[aws]`."),
    may("value", Free, PLACE_VALUE),
    may("values", ValueRefs, PLACE_VALUES),
    may("exercise", Bool, "As of a switch. Default: true."),
];

pub(super) static STAGE_VARIABLE: &[Key] = &[
    must("api", Text, "The REST API's id."),
    must("stage", Text, "The stage."),
    must("variable", Text, "The variable."),
];

pub(super) static FREEZE: &[Key] = &[
    must(
        "switch",
        TextOrTexts,
        "Id of the switch whose `to` value freezes writes, or a list of them where customers write in several places; \
         thaw restores the captured values.",
    ),
    must(
        "probe",
        TextOrTexts,
        "Id of the write probe that must be refused while frozen, or a list of them: one for each place where customers write.",
    ),
    may("settle", Duration, "How long writes must have been refused without a break. Default: 3s."),
    may("timeout", Duration, "How long to wait for the first refusal. Default: 60s."),
];

pub(super) static PROBES: &[Key] = &[
    must("id", Text, "Short name."),
    may("method", OneOf(METHODS), "Default: GET."),
    must("url", Url, "Full URL."),
    may("body", Free, "Request body; `{nonce}` is replaced by a fresh one."),
    may("accept", Statuses, "Statuses that mean the request was served. Default: any 2xx."),
    may("refused", Statuses, "Statuses that mean writes are refused on purpose."),
    may("contains", Text, "Text the answer must hold to count as served."),
    may("every", Duration, "Pause between two probes. Default: 1s."),
    may("timeout", Duration, "Longest wait for an answer. Default: 3s."),
];
pub(super) static METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) static SIGNALS: &[Key] = &[
    must("id", Text, "Name used by gates and screens."),
    may("source", OneOf(SOURCES), "A number the console measures itself. Default: the one named like the id."),
    may("probe_p95", Text, "Latency p95 of this probe over the last minute, ms."),
    may("probe_errors", Text, "Share of failed requests of this probe over the last minute, %."),
    may("cloudwatch", Table(CLOUDWATCH), "A CloudWatch metric."),
    may("unit", Free, "Unit as shown. Default: the source's own."),
    may("side", OneOf(SIDES), "The side it speaks of: `old`, `new` or `both` (default)."),
    may("limit", Number, "Above this it is red. Default: the source's own, or only shown."),
    may("stale", Duration, "Older than this it is stale, and gates treat it as not met."),
];
pub(super) static SOURCES: &[&str] = &[
    "lag",
    "marker",
    "mismatches",
    "match_rate",
    "parked",
    "unaccounted",
    "reverse",
    "strays",
    "downtime",
    "trim",
    "retained_log",
];
pub(super) static SIDES: &[&str] = &["old", "new", "both"];

pub(super) static CLOUDWATCH: &[Key] = &[
    must("namespace", Text, "Namespace."),
    must("metric", Text, "Metric name."),
    may("dimensions", Map(&Text), "Dimensions, name to value."),
    may("statistic", Text, "`Average` (default), `Sum`, `Maximum`, `p95`, ..."),
    may("period", Duration, "Period: 1s, 5s, 10s, 30s or whole minutes. Default: 1m."),
];

pub(super) static GATES: &[Key] = &[
    must("id", Text, "Short name."),
    may("title", Text, "Words for the screen. Default: the id."),
    must("criteria", Texts, "Comparisons that must all hold: `lag < 2`."),
    may("hold", Duration, "How long they must have held without a break. Default: 0s."),
    may("give_up", Duration, "When the gate gives up waiting. Default: never."),
    may(
        "on_fail",
        OneOf(ON_FAIL),
        "`hold` (default) waits for a person, `step_back` takes back what switched last, `roll_back` everything.",
    ),
];
pub(super) static ON_FAIL: &[&str] = &["hold", "step_back", "roll_back"];

pub(super) static STEPS: &[Key] = &[
    must("id", Text, "Short name, unique."),
    may("title", Text, "Words for the screen. Default: the id."),
    must("at", Offset, "Planned start: `T-02:00`, `T+00:15`, also with seconds."),
    may("takes", Duration, "How long it is expected to take. Default: 0s."),
    may("owner", Free, "Who answers for it."),
    must("kind", OneOf(&crate::domain::plan::StepKind::NAMES), "What it does."),
    may("start", OneOf(STARTS), "`when_ready` (default) or `at_planned`."),
    may("confirm", Confirm, "What a person must do first: `none` (default), `key`, `word` or `{ word = \"...\" }`."),
    may(
        "two_person",
        Bool,
        "A second person must approve it from another terminal (`cutover approve`). Default: false.",
    ),
    may("undo", Free, "How it is undone, in words."),
    may("max_lag", Duration, "For `catch_up`: largest apply lag that counts as caught up. Default: 2s."),
    may("switches", Texts, "For `switch`: switch ids, set in parallel."),
    may("to", Map(&Text), "For `switch`: ids of switches that have positions, each with the position it goes to."),
    may("probes", Texts, "For `smoke`: probe ids that must be served."),
    may("signals", Texts, "For `baseline`: ids of signals of probes and CloudWatch metrics."),
    may("samples", Count, "For `baseline`: requests or values of each that count. Default: 100."),
    may("warm_up", Int, "For `baseline`: requests of each probe sent before that do not count. Default: 10."),
    may("gate", Text, "For `gate`: the gate's id."),
    may("gates", Texts, "For `go-no-go`: gate ids that must all be met."),
    may("voters", Texts, "For `go-no-go`: who votes, by name. Default: nobody, the gates alone decide."),
    may("quorum", Count, "For `go-no-go`: votes to go that are needed. Default: all voters."),
    may(
        "jobs",
        Texts,
        "For `restart`, `backup`, `command` and `cleanup`: job ids. Those of a `cleanup` are done in this order.",
    ),
    may("what", Text, "For `manual`: what a person does."),
];

pub(super) static STARTS: &[&str] = &["when_ready", "at_planned"];

pub(super) static WORD: &[Key] = &[must("word", Text, "The word to type.")];
