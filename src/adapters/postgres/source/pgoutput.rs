//! Messages of PostgreSQL's logical replication, as the plugin `pgoutput` writes them in protocol version 1:
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>. Bytes in, messages out.

use std::fmt;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins. Transactions come whole and one after the other, in the order of their commits.
    Begin {
        /// Where its commit stands in the log.
        commit: u64,
        /// When it was committed: microseconds since 2000-01-01 UTC.
        at: i64,
        /// Its number, which comes again after some four billion.
        xid: u32,
    },
    /// The transaction is at its end.
    Commit {
        /// Where the next record of the log stands.
        end: u64,
    },
    /// What somebody wrote into the log itself, by `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Whose message it is.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
    /// How a table looks: before its first change on a connection, and again after its definition changed.
    Relation(Relation),
    /// A type that is not built in. Its name says nothing that the catalogue does not.
    Type,
    /// Where a transaction came from that was replicated into this server.
    Origin(&'a str),
    /// A new row.
    Insert {
        /// The table, as its [`Relation`] named it.
        relation: u32,
        /// The row.
        new: Vec<Datum<'a>>,
    },
    /// A changed row.
    Update {
        /// The table, as its [`Relation`] named it.
        relation: u32,
        /// The row before: where its key changed, or where the table's replica identity is the whole row.
        old: Option<Old<'a>>,
        /// The row after.
        new: Vec<Datum<'a>>,
    },
    /// A row that is gone.
    Delete {
        /// The table, as its [`Relation`] named it.
        relation: u32,
        /// What is known of it.
        old: Old<'a>,
    },
    /// Tables that were emptied at once.
    Truncate {
        /// The tables, as their [`Relation`]s named them.
        relations: Vec<u32>,
    },
}

/// How a table looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's number in the catalogue, by which changes name it.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What an update or a deletion says of the row before.
    pub identity: Identity,
    /// Its published columns, in the order of every row's values.
    pub columns: Vec<RelationColumn>,
}

/// A table's replica identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Its primary key.
    PrimaryKey,
    /// A unique index.
    Index,
    /// The whole row.
    Full,
    /// Nothing: no update or deletion is published.
    Nothing,
}

/// A published column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Its name.
    pub name: String,
    /// Whether it is part of the replica identity.
    pub key: bool,
    /// Its type's number in the catalogue.
    pub type_oid: u32,
    /// What limits the type, as `pg_attribute.atttypmod` holds it; -1 for nothing.
    pub type_modifier: i32,
}

/// What a change says of the row before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// The columns of the replica identity; every other value is [`Datum::Null`].
    Key(Vec<Datum<'a>>),
    /// The whole row.
    Whole(Vec<Datum<'a>>),
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    /// NULL.
    Null,
    /// A large value that is stored beside the row and was not changed: it is not sent.
    Unchanged,
    /// The value as the type's output function writes it.
    Text(&'a str),
    /// The value as the type's send function writes it.
    Binary(&'a [u8]),
}

/// Bytes that are no message, and where they stop being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The offset of the first byte that does not fit.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a replication message is malformed: no {} at byte {}", self.expected, self.at)
    }
}

impl std::error::Error for Malformed {}

/// Decodes one message, all of `bytes`.
///
/// # Errors
/// Bytes that are no message, or more than one.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut from = Bytes { all: bytes, at: 0 };
    let message = match from.u8("message")? {
        b'B' => {
            let (commit, at) = (from.u64("position")?, from.u64("time")?.cast_signed());
            Message::Begin { commit, at, xid: from.u32("transaction")? }
        }
        b'C' => {
            from.u8("option")?;
            from.u64("position")?;
            let end = from.u64("position")?;
            from.u64("time")?;
            Message::Commit { end }
        }
        b'M' => {
            let transactional = from.u8("option")? & 1 == 1;
            from.u64("position")?;
            let (prefix, len) = (from.text("prefix")?, from.u32("content's length")?);
            let content = from.take(usize::try_from(len).unwrap_or(usize::MAX), "content")?;
            Message::Logical { transactional, prefix, content }
        }
        b'R' => Message::Relation(from.relation()?),
        b'Y' => {
            from.u32("type")?;
            from.text("schema")?;
            from.text("type's name")?;
            Message::Type
        }
        b'O' => {
            from.take(8, "position")?;
            Message::Origin(from.text("origin's name")?)
        }
        b'I' => {
            let relation = from.u32("table")?;
            from.tag(b'N', "new row")?;
            Message::Insert { relation, new: from.row()? }
        }
        b'U' => {
            let relation = from.u32("table")?;
            let old = match from.peek() {
                Some(b'K' | b'O') => Some(from.old()?),
                _ => None,
            };
            from.tag(b'N', "new row")?;
            Message::Update { relation, old, new: from.row()? }
        }
        b'D' => Message::Delete { relation: from.u32("table")?, old: from.old()? },
        b'T' => {
            let count = from.u32("number of tables")?;
            from.u8("option")?;
            Message::Truncate { relations: (0..count).map(|_| from.u32("table")).collect::<Result<_, _>>()? }
        }
        _ => return Err(Malformed { at: 0, expected: "known message" }),
    };
    if from.at == bytes.len() { Ok(message) } else { Err(Malformed { at: from.at, expected: "end" }) }
}

struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.all.len());
        let end = end.ok_or(Malformed { at: self.at, expected })?;
        let taken = self.all.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Malformed> {
        let at = self.at;
        self.take(N, expected)?.try_into().map_err(|_| Malformed { at, expected })
    }

    fn u8(&mut self, expected: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(expected).map(|[byte]| byte)
    }

    fn u16(&mut self, expected: &'static str) -> Result<u16, Malformed> {
        self.array(expected).map(u16::from_be_bytes)
    }

    fn u32(&mut self, expected: &'static str) -> Result<u32, Malformed> {
        self.array(expected).map(u32::from_be_bytes)
    }

    fn u64(&mut self, expected: &'static str) -> Result<u64, Malformed> {
        self.array(expected).map(u64::from_be_bytes)
    }

    fn peek(&self) -> Option<u8> {
        self.all.get(self.at).copied()
    }

    fn tag(&mut self, tag: u8, expected: &'static str) -> Result<(), Malformed> {
        let at = self.at;
        if self.u8(expected)? == tag { Ok(()) } else { Err(Malformed { at, expected }) }
    }

    fn utf8(at: usize, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
        std::str::from_utf8(bytes).map_err(|e| Malformed { at: at + e.valid_up_to(), expected: "UTF-8 text" })
    }

    /// Text up to a zero byte.
    fn text(&mut self, expected: &'static str) -> Result<&'a str, Malformed> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|b| *b == 0).ok_or(Malformed { at: self.at, expected })?;
        let at = self.at;
        let text = Self::utf8(at, self.take(len, expected)?)?;
        self.take(1, expected)?;
        Ok(text)
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (oid, schema, name) = (self.u32("table")?, self.text("schema")?, self.text("table's name")?);
        let at = self.at;
        let identity = match self.u8("replica identity")? {
            b'd' => Identity::PrimaryKey,
            b'i' => Identity::Index,
            b'f' => Identity::Full,
            b'n' => Identity::Nothing,
            _ => return Err(Malformed { at, expected: "replica identity" }),
        };
        let count = self.u16("number of columns")?;
        let columns = (0..count)
            .map(|_| {
                let key = self.u8("column")? & 1 == 1;
                let name = self.text("column's name")?.to_owned();
                let type_oid = self.u32("column's type")?;
                let type_modifier = self.u32("type's modifier")?.cast_signed();
                Ok(RelationColumn { name, key, type_oid, type_modifier })
            })
            .collect::<Result<_, Malformed>>()?;
        // An empty name is the one schema that needs none.
        let schema = if schema.is_empty() { "pg_catalog" } else { schema };
        Ok(Relation { oid, schema: schema.to_owned(), name: name.to_owned(), identity, columns })
    }

    fn old(&mut self) -> Result<Old<'a>, Malformed> {
        let at = self.at;
        match self.u8("row before")? {
            b'K' => self.row().map(Old::Key),
            b'O' => self.row().map(Old::Whole),
            _ => Err(Malformed { at, expected: "row before" }),
        }
    }

    fn row(&mut self) -> Result<Vec<Datum<'a>>, Malformed> {
        let count = self.u16("number of values")?;
        (0..count).map(|_| self.datum()).collect()
    }

    fn datum(&mut self) -> Result<Datum<'a>, Malformed> {
        let at = self.at;
        let tag = self.u8("value")?;
        match tag {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            b't' | b'b' => {
                let len = self.u32("value's length")?;
                let start = self.at;
                let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX), "value")?;
                if tag == b'b' { Ok(Datum::Binary(bytes)) } else { Self::utf8(start, bytes).map(Datum::Text) }
            }
            _ => Err(Malformed { at, expected: "value" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes from hexadecimal digits, spaces left out.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// What PostgreSQL 15 wrote for `big (id int PRIMARY KEY, note text STORAGE EXTERNAL, "other" numeric(10,2))`.
    const RECORDED: &[(&str, &str)] = &[
        ("begin", "42000000000152eab00003046c82a953a1000002d9"),
        ("commit", "4300000000000152eab0000000000152eae00003046c82a953a1"),
        ("logical", "4d01000000000152eab06375746f76657200000000036e2f31"),
        (
            "relation",
            "52000040007075626c696300626967006400030169640000000017ffffffff006e6f74650000000019ffffffff006f7468657200000006a4000a0006",
        ),
        ("insert", "49000040004e00037400000001317400000002c3a97400000004312e3530"),
        ("key changed", "55000040004b00037400000001316e6e4e00037400000001337400000002c3a97400000004312e3530"),
        ("large value kept", "55000040004e0003740000000134757400000004322e3030"),
        ("deleted by key", "44000040004b00037400000001336e6e"),
        (
            "relation with whole rows",
            "52000040007075626c696300626967006600030169640000000017ffffffff016e6f74650000000019ffffffff016f7468657200000006a4000a0006",
        ),
        ("deleted by whole row", "44000040004f00037400000001326e6e"),
        ("type", "59000040087075626c6963006d6f6f6400"),
        ("truncate", "540000000200000040000000400d"),
        ("origin", "4f00000000000000aa656c7365776865726500"),
    ];

    fn recorded(of: &str) -> Vec<u8> {
        hex(RECORDED.iter().find(|(name, _)| *name == of).unwrap().1)
    }

    fn decoded(of: &str) -> Message<'static> {
        decode(Box::leak(recorded(of).into_boxed_slice())).unwrap()
    }

    const BIG: u32 = 0x4000;

    #[test]
    fn a_table_is_named_with_its_columns_and_its_identity() {
        let column = |name: &str, key, type_oid, type_modifier| RelationColumn {
            name: name.to_owned(),
            key,
            type_oid,
            type_modifier,
        };
        let big = |identity, all| Relation {
            oid: BIG,
            schema: "public".to_owned(),
            name: "big".to_owned(),
            identity,
            columns: vec![
                column("id", true, 23, -1),
                column("note", all, 25, -1),
                column("other", all, 1700, (10 << 16) + 2 + 4),
            ],
        };
        assert_eq!(decoded("relation"), Message::Relation(big(Identity::PrimaryKey, false)));
        assert_eq!(decoded("relation with whole rows"), Message::Relation(big(Identity::Full, true)));
        assert_eq!(decoded("type"), Message::Type);
        let catalogue = decode(b"R\0\0\0\x01\0pg_am\0n\0\0").unwrap();
        let Message::Relation(am) = catalogue else { panic!("{catalogue:?}") };
        assert_eq!((am.schema.as_str(), am.identity, am.columns.len()), ("pg_catalog", Identity::Nothing, 0));
    }

    #[test]
    fn changes_say_what_was_and_what_is() {
        use Datum::{Null, Text, Unchanged};
        let row = |id| vec![Text(id), Text("é"), Text("1.50")];
        assert_eq!(decoded("insert"), Message::Insert { relation: BIG, new: row("1") });
        let old = Some(Old::Key(vec![Text("1"), Null, Null]));
        assert_eq!(decoded("key changed"), Message::Update { relation: BIG, old, new: row("3") });
        let new = vec![Text("4"), Unchanged, Text("2.00")];
        assert_eq!(decoded("large value kept"), Message::Update { relation: BIG, old: None, new });
        let old = Old::Key(vec![Text("3"), Null, Null]);
        assert_eq!(decoded("deleted by key"), Message::Delete { relation: BIG, old });
        let old = Old::Whole(vec![Text("2"), Null, Null]);
        assert_eq!(decoded("deleted by whole row"), Message::Delete { relation: BIG, old });
        assert_eq!(decoded("truncate"), Message::Truncate { relations: vec![BIG, 0x400d] });
        assert_eq!(decoded("begin"), Message::Begin { commit: 0x152_eab0, at: 0x3_046c_82a9_53a1, xid: 0x2d9 });
        assert_eq!(decoded("commit"), Message::Commit { end: 0x152_eae0 });
        let logical = Message::Logical { transactional: true, prefix: "cutover", content: b"n/1" };
        assert_eq!(decoded("logical"), logical);
        assert_eq!(decoded("origin"), Message::Origin("elsewhere"));
        let binary = b"I\0\0\0\x01N\0\x01b\0\0\0\x02\xff\0";
        let new = vec![Datum::Binary(&[255, 0])];
        assert_eq!(decode(binary).unwrap(), Message::Insert { relation: 1, new });
    }

    #[test]
    fn a_message_that_is_cut_off_or_goes_on_is_refused() {
        for (name, text) in RECORDED {
            let whole = hex(text);
            for len in 0..whole.len() {
                assert!(decode(&whole[..len]).is_err(), "{name} cut to {len}");
            }
            let more = [whole.as_slice(), b"n"].concat();
            assert_eq!(decode(&more), Err(Malformed { at: whole.len(), expected: "end" }), "{name}");
        }
    }

    #[test]
    fn what_no_server_writes_is_refused_where_it_stands() {
        let refused = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(refused(b"S\0"), "a replication message is malformed: no known message at byte 0");
        assert!(refused(b"I\0\0\0\x01K\0\0").ends_with("no new row at byte 5"));
        assert!(refused(b"D\0\0\0\x01N\0\0").ends_with("no row before at byte 5"));
        assert!(refused(b"I\0\0\0\x01N\0\x01x").ends_with("no value at byte 8"));
        assert!(refused(b"I\0\0\0\x01N\0\x01t\0\0\0\x02a\xff").ends_with("no UTF-8 text at byte 14"));
        assert!(refused(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff").ends_with("no value at byte 13"));
        assert!(refused(b"R\0\0\0\x01\0a\0x\0\0").ends_with("no replica identity at byte 8"));
    }
}
