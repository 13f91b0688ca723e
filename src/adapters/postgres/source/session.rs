//! A session that reads the log. The driver of ordinary connections has no words for it, so the handshake and the two
//! directions of the stream are here, over the messages of `postgres-protocol`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::{self, sasl};
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::timeline::Timelines;
use crate::adapters::postgres::settings::{PgSettings, SslMode};
use crate::adapters::postgres::{native, tls, trouble};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult};

/// Longest wait for the server to answer before the stream begins.
const ANSWER: Duration = Duration::from_secs(30);
/// Room for what comes at once, in bytes; and how long a stream that gave something is left to give more.
const ROOM: usize = 64 * 1024;
const MOMENT: Duration = Duration::from_millis(1);

/// What is tried.
const READ: &str = "read the log of";

/// What the server calls a session of ours.
pub(super) const NAME: &str = "cutover";

trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// A connection that may read the log.
pub(super) struct Session {
    line: Box<dyn Line>,
    /// What came and is not taken yet.
    came: BytesMut,
    /// When something came last.
    came_at: Option<Instant>,
    /// Whether it is a stream of changes by now.
    streams: bool,
    place: String,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// `Denied` for a refused password, certificate or right; `Unreachable` when nobody answers.
    pub(super) async fn open(settings: &PgSettings, password: Option<&Secret>) -> PortResult<Self> {
        let place = settings.place();
        let opened = async {
            let line = line(settings, &place).await?;
            let mut session = Self { line, came: BytesMut::new(), came_at: None, streams: false, place: place.clone() };
            session.log_in(settings, password).await?;
            Ok(session)
        };
        match tokio::time::timeout(ANSWER, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(PortError::new(ErrorKind::Unreachable, "connect to", place, "no answer in 30 s")),
        }
    }

    async fn log_in(&mut self, settings: &PgSettings, password: Option<&Secret>) -> PortResult<()> {
        let mut out = BytesMut::new();
        // Values are written the same way whatever the server is set to. It hears from us each second, so one of us that
        // is gone frees its slot soon.
        let options = format!("{} -c wal_sender_timeout=20s", native::SETTINGS);
        let parameters = [
            ("user", settings.user.as_str()),
            ("database", settings.database.as_str()),
            ("replication", "database"),
            ("application_name", NAME),
            ("client_encoding", "UTF8"),
            ("options", options.as_str()),
        ];
        frontend::startup_message(parameters, &mut out).map_err(|e| self.broken(&e))?;
        self.send(&out).await?;
        let mut scram = None;
        loop {
            let mut out = BytesMut::new();
            let message = self.message().await?;
            let secret = || {
                let missing = "the server asks for a password";
                let denied = PortError::new(ErrorKind::Denied, "connect to", &self.place, missing);
                password
                    .map(|p| p.reveal().as_bytes())
                    .ok_or_else(|| denied.advise("set `password` in the database's section of the config"))
            };
            let written = match message {
                Message::AuthenticationOk
                | Message::ParameterStatus(_)
                | Message::BackendKeyData(_)
                | Message::NoticeResponse(_) => continue,
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationCleartextPassword if settings.sslmode != SslMode::Disable => {
                    frontend::password_message(secret()?, &mut out)
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = authentication::md5_hash(settings.user.as_bytes(), secret()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)
                }
                Message::AuthenticationSasl(body) => {
                    let known = body.mechanisms().any(|m| Ok(m == sasl::SCRAM_SHA_256)).map_err(|e| self.broken(&e))?;
                    if !known {
                        return Err(self.denied("it asks for a way of logging in that is not SCRAM-SHA-256"));
                    }
                    let begun = sasl::ScramSha256::new(secret()?, sasl::ChannelBinding::unsupported());
                    let written = frontend::sasl_initial_response(sasl::SCRAM_SHA_256, begun.message(), &mut out);
                    scram = Some(begun);
                    written
                }
                Message::AuthenticationSaslContinue(body) => {
                    let Some(scram) = scram.as_mut() else {
                        return Err(self.denied("it went on with a login nobody began"));
                    };
                    scram.update(body.data()).map_err(|e| self.denied(&e.to_string()))?;
                    frontend::sasl_response(scram.message(), &mut out)
                }
                Message::AuthenticationSaslFinal(body) => {
                    let Some(scram) = scram.as_mut() else { return Err(self.denied("it ended a login nobody began")) };
                    // Proves that the server knows the password too.
                    scram.finish(body.data()).map_err(|e| self.denied(&e.to_string()))?;
                    continue;
                }
                Message::ErrorResponse(body) => return Err(self.refused(&body, "connect to")),
                _ => return Err(self.denied("it asks for a way of logging in that is not known here")),
            };
            written.map_err(|e| self.broken(&e))?;
            self.send(&out).await?;
        }
    }

    /// As which timeline the server's log goes on, and what it knows of those before.
    ///
    /// # Errors
    /// It does not answer, or not as PostgreSQL does.
    pub(super) async fn timelines(&mut self) -> PortResult<Timelines> {
        let told = |row: Option<Vec<Option<String>>>| row.and_then(|mut row| row.get_mut(1).and_then(Option::take));
        let known = told(self.ask("IDENTIFY_SYSTEM").await?).and_then(|text| text.parse().ok());
        let now: u32 = known.ok_or_else(|| self.broken(&io::Error::other("the server says no timeline")))?;
        // The first one comes from nowhere. A history that is not there any more says nothing, which is judged then.
        let history = match now {
            0 | 1 => None,
            now => match self.ask(&format!("TIMELINE_HISTORY {now}")).await {
                Ok(row) => told(row),
                Err(e) if e.kind == ErrorKind::Unreachable || e.kind == ErrorKind::TimedOut => return Err(e),
                Err(e) => {
                    tracing::warn!(error = %e, timeline = now, "the server does not tell the history of its log");
                    None
                }
            },
        };
        Ok(Timelines::new(now, &history.unwrap_or_default()))
    }

    /// The first row of an answer, as text.
    async fn ask(&mut self, sql: &str) -> PortResult<Option<Vec<Option<String>>>> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|e| self.broken(&e))?;
        self.send(&out).await?;
        let answered = async {
            let (mut row, mut failed) = (None, None);
            loop {
                match self.message().await? {
                    Message::ReadyForQuery(_) => return failed.map_or(Ok(row), Err),
                    Message::ErrorResponse(body) => failed = Some(self.refused(&body, READ)),
                    Message::DataRow(body) => {
                        let buffer = body.buffer();
                        let text = |range: Option<std::ops::Range<usize>>| {
                            Ok(range.map(|at| String::from_utf8_lossy(&buffer[at]).into_owned()))
                        };
                        row = Some(body.ranges().map(text).collect().map_err(|e| self.broken(&e))?);
                    }
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(answered) => answered,
            Err(_) => Err(self.silent(READ)),
        }
    }

    /// Begins to read a slot from where it was confirmed last, or later. Values come in the binary form of their type
    /// where it has one, or all as text.
    pub(super) async fn start(mut self, slot: &str, publication: &str, from: u64, as_text: bool) -> PortResult<Log> {
        let quoted = |name: &str| format!("'{}'", name.replace('\'', "''"));
        let names = quoted(&format!("\"{}\"", publication.replace('"', "\"\"")));
        let sql = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {} (proto_version '1', publication_names {names}, messages 'true', binary '{}')",
            shown(from),
            !as_text
        );
        let mut out = BytesMut::new();
        frontend::query(&sql, &mut out).map_err(|e| self.broken(&e))?;
        self.send(&out).await?;
        loop {
            let frame = tokio::time::timeout(ANSWER, self.frame()).await;
            let (tag, mut body) = frame.unwrap_or_else(|_| Err(self.silent(READ)))?;
            match tag {
                // Both may send now.
                b'W' => {
                    self.streams = true;
                    return Ok(Log { session: self });
                }
                b'E' => return Err(self.parse(tag, &mut body, READ)),
                _ => {}
            }
        }
    }

    /// A whole message with its tag, however its pieces arrive. Cancel-safe.
    async fn frame(&mut self) -> PortResult<(u8, BytesMut)> {
        loop {
            if let Some(header) = Header::parse(&self.came).map_err(|e| self.broken(&e))? {
                let len = usize::try_from(header.len()).unwrap_or(0) + 1;
                if self.came.len() >= len {
                    return Ok((header.tag(), self.came.split_to(len)));
                }
            }
            // An empty buffer gives itself room for 64 bytes, and a read brings no more.
            if self.came.capacity() - self.came.len() < ROOM / 4 {
                self.came.reserve(ROOM);
            }
            // A server that sends each change by itself would wake us for each.
            if self.streams && self.came_at.is_some_and(|at| at.elapsed() < MOMENT) {
                tokio::time::sleep(MOMENT).await;
            }
            let read = self.line.read_buf(&mut self.came).await.map_err(|e| self.broken(&e))?;
            // A read that filled its room left more behind, which is there already.
            self.came_at = (self.came.len() < self.came.capacity()).then(Instant::now);
            if read == 0 {
                let gone =
                    PortError::new(ErrorKind::Unreachable, READ, &self.place, "the server closed the connection");
                return Err(gone.advise("it is connected anew"));
            }
        }
    }

    async fn message(&mut self) -> PortResult<Message> {
        let (_, mut frame) = self.frame().await?;
        let message = Message::parse(&mut frame).map_err(|e| self.broken(&e))?;
        message.ok_or_else(|| self.broken(&io::Error::other("half a message")))
    }

    fn parse(&self, tag: u8, frame: &mut BytesMut, tried: &str) -> PortError {
        match Message::parse(frame) {
            Ok(Some(Message::ErrorResponse(body))) => self.refused(&body, tried),
            _ => self.broken(&io::Error::other(format!("a message {} that is none", char::from(tag)))),
        }
    }

    async fn send(&mut self, out: &[u8]) -> PortResult<()> {
        let sent = async {
            self.line.write_all(out).await?;
            self.line.flush().await
        };
        let sent = sent.await;
        sent.map_err(|e| self.broken(&e))
    }

    fn broken(&self, e: &io::Error) -> PortError {
        PortError::new(ErrorKind::Unreachable, READ, &self.place, e.to_string()).advise("it is connected anew")
    }

    fn silent(&self, tried: &str) -> PortError {
        PortError::new(ErrorKind::TimedOut, tried, &self.place, format!("no answer in {} s", ANSWER.as_secs()))
    }

    fn denied(&self, why: &str) -> PortError {
        PortError::new(ErrorKind::Denied, "connect to", &self.place, why)
    }

    fn refused(&self, body: &ErrorResponseBody, tried: &str) -> PortError {
        let (mut code, mut said) = (String::new(), String::new());
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = value,
                b'M' => said = value,
                _ => {}
            }
        }
        let (kind, advice) = match code.as_str() {
            // A piece of the log that was to be kept is gone.
            "58P01" => (ErrorKind::Trimmed, "load the tables anew, and raise max_slot_wal_keep_size"),
            code => trouble::of_code(code),
        };
        PortError::new(kind, tried, &self.place, format!("{said} (SQLSTATE {code})")).advise(advice)
    }
}

/// Opens the line, encrypted as the settings say.
async fn line(settings: &PgSettings, place: &str) -> PortResult<Box<dyn Line>> {
    let unreachable = |e: &dyn std::fmt::Display| {
        PortError::new(ErrorKind::Unreachable, "connect to", place, e.to_string())
            .advise("check host, port and network, and that the server is up")
    };
    let denied = |why: String| {
        PortError::new(ErrorKind::Denied, "connect to", place, why)
            .advise("check sslmode and ca_file, and that the server's certificate names this host")
    };
    let mut tcp = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(|e| unreachable(&e))?;
    tcp.set_nodelay(true).map_err(|e| unreachable(&e))?;
    let config = match settings.sslmode {
        SslMode::Disable => return Ok(Box::new(tcp)),
        SslMode::Prefer | SslMode::Require => tls::unverified()?,
        SslMode::VerifyFull => tls::verified(settings.ca_file.as_deref(), &settings.host)?,
    };
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    tcp.write_all(&out).await.map_err(|e| unreachable(&e))?;
    match tcp.read_u8().await.map_err(|e| unreachable(&e))? {
        b'S' => {}
        _ if settings.sslmode == SslMode::Prefer => return Ok(Box::new(tcp)),
        _ => return Err(denied("the server does not speak TLS".to_owned())),
    }
    let name = ServerName::try_from(settings.host.clone()).map_err(|e| denied(e.to_string()))?;
    let line = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| denied(e.to_string()))?;
    Ok(Box::new(line))
}

/// A position of the log as the server writes it: `0/16B3748`.
pub(in crate::adapters::postgres) fn shown(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

/// The same, read.
pub(in crate::adapters::postgres) fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// The stream of a slot.
pub(super) struct Log {
    session: Session,
}

/// What comes over the stream.
#[derive(Debug)]
pub(super) enum Frame {
    /// A message of the slot's plugin.
    Message(Bytes),
    /// Nothing of ours stands before this.
    Passed(u64),
}

/// What a message is to somebody who reads a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// A frame of the log.
    Change,
    /// A notice, a notification or another value of a setting: the server may send one at any time.
    Aside,
    /// Why the server goes no further.
    Failure,
    /// The log has ended.
    End,
}

const fn comes(tag: u8) -> Comes {
    match tag {
        b'd' => Comes::Change,
        b'N' | b'A' | b'S' => Comes::Aside,
        b'E' => Comes::Failure,
        _ => Comes::End,
    }
}

impl Log {
    /// The next frame. Cancel-safe.
    pub(super) async fn next(&mut self) -> PortResult<Frame> {
        loop {
            let (tag, mut frame) = self.session.frame().await?;
            match comes(tag) {
                Comes::Change => {}
                Comes::Aside => continue,
                Comes::Failure => return Err(self.session.parse(tag, &mut frame, READ)),
                Comes::End => return Err(self.session.broken(&io::Error::other("the server ended the stream"))),
            }
            // Tag and length of the frame, then the kind of what it holds.
            frame.advance(5);
            match frame.first().copied() {
                // Where it begins, where the server stands, and when.
                Some(b'w') if frame.len() >= 25 => return Ok(Frame::Message(frame.split_off(25).freeze())),
                Some(b'k') if frame.len() >= 18 => {
                    frame.advance(1);
                    return Ok(Frame::Passed(frame.get_u64()));
                }
                _ => {}
            }
        }
    }

    /// Tells the server that everything before this is durable and may be forgotten. It also shows that somebody is
    /// there: a server that hears nothing ends the session. With `answer`, it is to say how far it has sent.
    pub(super) async fn confirm(&mut self, durable: u64, answer: bool) -> PortResult<()> {
        let micros = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros());
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        for _ in 0..3 {
            status.put_u64(durable);
        }
        status.put_i64(i64::try_from(micros).unwrap_or(i64::MAX).saturating_sub(EPOCH));
        status.put_u8(u8::from(answer));
        let mut out = BytesMut::new();
        frontend::CopyData::new(status).map_err(|e| self.session.broken(&e))?.write(&mut out);
        self.session.send(&out).await
    }
}

/// Microseconds from 1970 to 2000, from where the server counts.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_aside_is_not_the_end_of_the_log() {
        for (tag, what) in [
            (b'd', Comes::Change),
            (b'N', Comes::Aside),
            (b'A', Comes::Aside),
            (b'S', Comes::Aside),
            (b'E', Comes::Failure),
        ] {
            assert_eq!(comes(tag), what, "{}", char::from(tag));
        }
        for tag in [b'c', b'C', b'Z'] {
            assert_eq!(comes(tag), Comes::End, "{}", char::from(tag));
        }
    }

    #[test]
    fn positions_are_written_and_read_as_the_server_does() {
        for (number, text) in [(0, "0/0"), (0x152_eab0, "0/152EAB0"), (0x16_b374_8d84_8000, "16B374/8D848000")] {
            assert_eq!((shown(number).as_str(), position(text)), (text, Some(number)));
        }
        assert_eq!((position("0"), position("0/x"), position("")), (None, None, None));
    }
}
