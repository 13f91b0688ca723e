//! Reading JSON once, borrowing what was not escaped: as much as a DynamoDB answer needs, all of it validated.
//!
//! The text is checked for UTF-8 in one go; strings are then searched eight bytes at a time for the byte that ends
//! them. A general parser pays for what it does not know: which members come, and that most are plain strings.

use std::borrow::Cow;

/// Deepest nesting that is read; DynamoDB itself allows 32 levels.
const DEEPEST: u32 = 128;

/// What is wrong with a text, and where. Says nothing of what stands there: it may be data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(super) struct Malformed {
    /// What was met or missed.
    pub what: &'static str,
    /// Bytes from the beginning.
    pub at: usize,
}

/// A place in a text that is being read.
#[derive(Debug)]
pub(super) struct Json<'p> {
    text: &'p str,
    at: usize,
    depth: u32,
}

impl<'p> Json<'p> {
    /// At the beginning of a body, which must be UTF-8.
    pub(super) fn new(body: &'p [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|e| Malformed { what: "not UTF-8", at: e.valid_up_to() })?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    /// An error here.
    pub(super) fn wrong(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("text after the end")),
        }
    }

    /// The next byte that is not white space, not taken.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), Malformed> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.wrong(what))
        }
    }

    /// A string.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'p, str>, Malformed> {
        self.take(b'"', "no string")?;
        let start = self.at;
        self.at = stop(self.text.as_bytes(), start);
        match self.text.as_bytes().get(self.at) {
            Some(b'"') => {
                let text = self.text.get(start..self.at).ok_or_else(|| self.wrong("a broken string"))?;
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            _ => Err(self.wrong("a string without an end")),
        }
    }

    #[cold]
    fn escaped(&mut self, mut start: usize) -> Result<String, Malformed> {
        let mut out = String::new();
        loop {
            out.push_str(self.text.get(start..self.at).ok_or_else(|| self.wrong("a broken string"))?);
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    let short = self.text.as_bytes().get(self.at + 1).copied();
                    self.at += 2;
                    out.push(match short {
                        Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(b'u') => self.unicode()?,
                        _ => return Err(self.wrong("an unknown escape")),
                    });
                }
                _ => return Err(self.wrong("a string without an end")),
            }
            start = self.at;
            self.at = stop(self.text.as_bytes(), start);
        }
    }

    /// What follows `\u`, with the second half of a pair where there is one.
    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.unit()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if self.text.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(self.wrong("half a character"));
                }
                self.at += 2;
                let second = self.unit()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(self.wrong("half a character"));
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.wrong("half a character"))
    }

    fn unit(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.wrong("a broken escape"))?;
        let mut unit = 0;
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or_else(|| self.wrong("a broken escape"))?;
            unit = unit << 4 | value;
        }
        self.at += 4;
        Ok(unit)
    }

    /// An object: `each` is called with every name and must read the value.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'p, str>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.take(b'{', "no object")?;
        self.deeper()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let name = self.string()?;
                self.take(b':', "a name without a value")?;
                each(self, name)?;
                if self.closes(b'}')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A list: `each` must read one element.
    #[inline]
    pub(super) fn list(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        self.take(b'[', "no list")?;
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                each(self)?;
                if self.closes(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), Malformed> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.wrong("nested too deeply")) } else { Ok(()) }
    }

    /// After an element: whether the list or object ends here, or goes on after a comma.
    #[inline]
    fn closes(&mut self, end: u8) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.wrong("neither a comma nor an end")),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            _ => self.word("false").map(|()| false),
        }
    }

    /// Takes `null` if it stands here.
    pub(super) fn null(&mut self) -> Result<bool, Malformed> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word("null").map(|()| true)
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.wrong("no such word"))
        }
    }

    /// A number, as text.
    pub(super) fn number(&mut self) -> Result<&'p str, Malformed> {
        let from = self.peek().map_or(self.at, |_| self.at);
        let rest = &self.text.as_bytes()[from..];
        let digits = |at: usize| rest[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut at = usize::from(rest.first() == Some(&b'-'));
        let int = digits(at);
        let zero = rest.get(at) == Some(&b'0');
        at += int;
        let mut good = int > 0 && (int == 1 || !zero);
        if rest.get(at) == Some(&b'.') {
            let n = digits(at + 1);
            good &= n > 0;
            at += 1 + n;
        }
        if matches!(rest.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
            let n = digits(at);
            good &= n > 0;
            at += n;
        }
        if !good {
            return Err(self.wrong("no number"));
        }
        self.at = from + at;
        Ok(&self.text[from..self.at])
    }

    /// Reads over a value of any kind and gives its text.
    pub(super) fn raw(&mut self) -> Result<&'p str, Malformed> {
        let from = self.peek().map_or(self.at, |_| self.at);
        match self.peek() {
            Some(b'{') => self.object(|json, _| json.raw().map(drop))?,
            Some(b'[') => self.list(|json| json.raw().map(drop))?,
            Some(b'"') => drop(self.string()?),
            Some(b't' | b'f') => drop(self.boolean()?),
            Some(b'n') => self.word("null")?,
            Some(_) => drop(self.number()?),
            None => return Err(self.wrong("the end instead of a value")),
        }
        Ok(&self.text[from..self.at])
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of bytes that are zero; only bytes above the first such one may be marked wrongly.
const fn zeros(x: u64) -> u64 {
    x.wrapping_sub(ONES) & !x & HIGHS
}

/// Where a string's plain run ends: at a quote, a backslash, a control character or the end of the text.
#[inline]
fn stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let x = u64::from_le_bytes(*eight);
        let quote = zeros(x ^ (ONES * 0x22));
        let backslash = zeros(x ^ (ONES * 0x5C));
        let control = x.wrapping_sub(ONES * 0x20) & !x & HIGHS;
        let hit = quote | backslash | control;
        if hit != 0 {
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn whole(text: &str) -> Result<String, Malformed> {
        let mut json = Json::new(text.as_bytes())?;
        let raw = json.raw()?.to_owned();
        json.end()?;
        Ok(raw)
    }

    #[test]
    fn a_plain_run_ends_at_the_first_special_byte_wherever_it_stands() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, 0x1F] {
                let mut bytes = vec![b'x'; length];
                bytes.push(special);
                bytes.extend([0xC3, 0xA9, b'"', 0x21, 0x23, 0x5B, 0x5D, 0x20, 0x7F]);
                assert_eq!(stop(&bytes, 0), length, "{special:#x} at {length}");
            }
        }
        assert_eq!(stop(b"abc", 0), 3);
        assert_eq!(stop("\u{7f}é😀 !#[]".as_bytes(), 0), "\u{7f}é😀 !#[]".len());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            " ",
            "{",
            "[",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\uD800\"",
            "\"\\uD800\\u0041\"",
            "\"\\x\"",
            "\"a\nb\"",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "tru",
            "nul",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "1 2",
            "\"\\uDC00\"",
            "'a'",
            "{\"a\" 1}",
            "[1 2]",
            &deep,
        ] {
            assert!(whole(text).is_err(), "{text}");
        }
        assert!(Json::new(b"\"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn it_accepts_exactly_what_a_general_parser_accepts(text in "[\\[\\]{}:,\"\\\\a-fnrtu0-9 .eE+\\-\n]{0,24}") {
            // A general parser refuses numbers that no float holds; their grammar is right all the same.
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(whole(&text).is_ok(), theirs);
        }

        #[test]
        fn strings_are_read_as_a_general_parser_reads_them(inner in "(\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|[^\"\\\\\u{0}-\u{1f}]){0,12}") {
            let text = format!("\"{inner}\"");
            let ours = Json::new(text.as_bytes()).unwrap().string().map(Cow::into_owned).ok();
            let theirs = serde_json::from_str::<String>(&text).ok();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn any_value_is_read_over_whole(value in any::<u64>().prop_map(|seed| value(&mut fastrand::Rng::with_seed(seed), 4))) {
            let text = value.to_string();
            prop_assert_eq!(whole(&text).unwrap(), text);
        }
    }

    fn value(rng: &mut fastrand::Rng, deep: u32) -> Value {
        match rng.u32(..if deep == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Bool(rng.bool()),
            2 => rng.i64(..).into(),
            3 => (0..rng.usize(..20)).map(|_| rng.char(..)).collect::<String>().into(),
            4 => (0..rng.usize(..4)).map(|_| value(rng, deep - 1)).collect(),
            _ => (0..rng.usize(..4))
                .map(|n| (n.to_string(), value(rng, deep - 1)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}
