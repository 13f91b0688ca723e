//! Who is at the other end of the control socket, by the kernel's word and not by theirs.

use rustix::process::{Pid, getpid};
use tokio::net::UnixStream;

use crate::domain::run::Origin;

/// A process that asks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user, host and terminal.
    pub origin: Origin,
    /// Whether it belongs to the terminal, or without one to the session, that this process belongs to.
    pub same_terminal: bool,
}

/// Asks the kernel about the other end of a connection.
///
/// # Errors
/// In words: the kernel does not say which process it is (another PID namespace), or it is gone.
pub fn peer(stream: &UnixStream) -> Result<Peer, String> {
    let unknown = |why: String| format!("the kernel does not say where this comes from: {why}");
    let credentials = stream.peer_cred().map_err(|e| unknown(e.to_string()))?;
    let pid = credentials.pid().and_then(Pid::from_raw).ok_or_else(|| unknown("no process id".to_owned()))?;
    let (theirs, ours) = (ProcessTerminal::of(pid).map_err(unknown)?, ProcessTerminal::of(getpid()).map_err(unknown)?);
    Ok(Peer {
        origin: Origin {
            user: user_name(credentials.uid()),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            terminal: theirs.words(),
        },
        same_terminal: theirs.same(&ours),
    })
}

/// Where a process sits, as `/proc/PID/stat` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProcessTerminal {
    /// 0 when its leader is outside our PID namespace, as under `kubectl exec` or `nsenter`. `getsid` answers the
    /// same 0, which is no process id, so it is not asked.
    session: i32,
    /// Device number of the controlling terminal; 0 without one.
    device: u32,
}

impl ProcessTerminal {
    fn of(pid: Pid) -> Result<Self, String> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        Self::parse(&stat).ok_or_else(|| format!("{path} is not as the kernel writes it"))
    }

    /// Session and terminal are the fourth and fifth field after the name, which may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(3);
        let session = fields.next()?.parse().ok()?;
        Some(Self { session, device: fields.next()?.parse::<i32>().ok()?.cast_unsigned() })
    }

    /// Two sessions outside our namespace both have the id 0: they are distinguished by their terminals. Where that is
    /// not possible they are taken for one, for an approval needs two people who are known to differ.
    fn same(&self, other: &Self) -> bool {
        let terminal_in_common = self.device == other.device && self.device != 0;
        let told_apart_by_terminal = self.session == 0 && self.device != 0 && other.device != 0;
        terminal_in_common || (self.session == other.session && !told_apart_by_terminal)
    }

    fn words(&self) -> String {
        match self.device {
            0 => format!("session {}", self.session),
            device => terminal_name(device),
        }
    }
}

/// `pts/3`, `tty1`; Linux device numbers.
fn terminal_name(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        _ => format!("terminal {major}:{minor}"),
    }
}

/// The name of a user, as far as `/etc/passwd` knows it.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_and_terminal_are_read_past_any_program_name() {
        let process_terminal = |session, device| Some(ProcessTerminal { session, device });
        assert_eq!(ProcessTerminal::parse("4711 (a) b) c) S 1 2 3 34819 5"), process_terminal(3, 34819));
        assert_eq!(ProcessTerminal::parse("4711 (sh) S 1 2 3 0 -1"), process_terminal(3, 0));
        assert_eq!(
            ProcessTerminal::parse("4711 (sh) S 1 0 0 0 -1"),
            process_terminal(0, 0),
            "its leader is outside the namespace"
        );
        assert_eq!(ProcessTerminal::parse("torn"), None);
        assert_eq!(ProcessTerminal::parse("4711 (sh) S 1 2 3"), None);
        assert_eq!(terminal_name(34819), "pts/3");
        assert_eq!(terminal_name((4 << 8) | 1), "tty1");
        assert_eq!(terminal_name((137 << 8) | 2), "pts/258");
    }

    #[test]
    fn a_terminal_or_a_session_in_common_is_the_same_place() {
        let process_terminal = |session, device| ProcessTerminal { session, device };
        assert!(process_terminal(1, 5).same(&process_terminal(2, 5)), "the same terminal");
        assert!(process_terminal(1, 5).same(&process_terminal(1, 0)), "left its terminal, same session");
        assert!(!process_terminal(1, 0).same(&process_terminal(2, 0)), "two sessions without a terminal");
        assert!(!process_terminal(1, 5).same(&process_terminal(2, 6)));
        assert!(!process_terminal(0, 5).same(&process_terminal(0, 6)), "two terminals, both sessions outside");
        assert!(!process_terminal(0, 0).same(&process_terminal(2, 6)), "one session is ours to see, the other is not");
        assert!(
            process_terminal(0, 0).same(&process_terminal(0, 6))
                && process_terminal(0, 0).same(&process_terminal(0, 0)),
            "nothing tells them apart"
        );
    }

    #[tokio::test]
    async fn the_kernel_knows_our_own_end() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = peer(&a).unwrap();
        assert!(peer.same_terminal, "both ends are this process");
        assert!(!peer.origin.user.is_empty() && !peer.origin.terminal.is_empty());
    }
}
