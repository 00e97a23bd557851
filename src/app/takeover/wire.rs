//! What the two processes say to each other: one message with sockets, then lines.

use crate::wire::CancelKey;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fmt::Write;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The first line; another version of this conversation has another one.
const GREETING: &str = "pgweir takeover 2";
/// The successor serves.
pub(super) const SERVING: &[u8] = b"serving\n";
/// The old process accepts no longer.
pub(super) const LEAVING: &str = "leaving\n";
/// Begins what an old process says that does not want to be taken over; the reason follows.
pub(super) const REFUSED: &str = "pgweir refuses: ";
/// The most sockets that go over; the kernel takes 253.
const MOST: usize = 128;
/// Room for the text.
const TEXT: usize = 64 * 1024;

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Clients, by TCP.
    Tcp,
    /// Clients, by a Unix socket with this file.
    Unix(PathBuf),
    /// The next successor.
    Door,
    /// The exporter.
    Metrics,
    /// The conversation with an older process.
    Ancestor,
}

impl Kind {
    fn line(&self) -> String {
        match self {
            Self::Tcp => "tcp".to_owned(),
            // A path may hold anything.
            Self::Unix(path) => format!("unix {}", hex(path.as_os_str().as_bytes())),
            Self::Door => "door".to_owned(),
            Self::Metrics => "metrics".to_owned(),
            Self::Ancestor => "ancestor".to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        Some(match line.split_once(' ') {
            None if line == "tcp" => Self::Tcp,
            None if line == "door" => Self::Door,
            None if line == "metrics" => Self::Metrics,
            None if line == "ancestor" => Self::Ancestor,
            Some(("unix", path)) => Self::Unix(std::ffi::OsString::from_vec(unhex(path)?).into()),
            _ => return None,
        })
    }
}

/// Sends sockets, each with what it is for.
pub(super) fn send(stream: impl AsFd, sockets: &[(Kind, BorrowedFd<'_>)]) -> io::Result<()> {
    let mut text = format!("{GREETING}\n{}\n", std::process::id());
    for (kind, _) in sockets {
        text.push_str(&kind.line());
        text.push('\n');
    }
    let descriptors: Vec<_> = sockets.iter().map(|(_, descriptor)| *descriptor).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other(format!("more than {MOST} listening sockets")));
    }
    let sent = sendmsg(stream, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == text.len() { Ok(()) } else { Err(io::Error::other("the message did not fit")) }
}

/// Receives what [`send`] has sent: the number of the process, and the sockets.
pub(super) fn receive(stream: impl AsFd) -> io::Result<(u32, Vec<(Kind, OwnedFd)>)> {
    let mut text = vec![0; TEXT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let text = String::from_utf8_lossy(text.get(..received.bytes).unwrap_or_default()).into_owned();
    if let Some(reason) = text.strip_prefix(REFUSED) {
        return Err(io::Error::other(reason.trim_end()));
    }
    let mut lines = text.lines();
    if lines.next() != Some(GREETING) {
        return Err(io::Error::other("it is of another version, or about to end"));
    }
    let strange = || io::Error::other("its message cannot be understood");
    let process = lines.next().and_then(|line| line.parse().ok()).ok_or_else(strange)?;
    let kinds: Option<Vec<_>> = lines.map(Kind::parse).collect();
    let kinds = kinds.filter(|kinds| kinds.len() == descriptors.len()).ok_or_else(strange)?;
    Ok((process, kinds.into_iter().zip(descriptors).collect()))
}

/// The user at the other end.
pub(super) fn peer_uid(stream: impl AsFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// A cancel request as a line, with a mark that its answer bears: who asks may have given up the one before, whose answer
/// comes all the same.
pub(super) fn cancel_line(mark: &str, key: &CancelKey) -> String {
    format!("cancel {mark} {} {}\n", key.process, hex(&key.secret))
}

/// The cancel request that a line asks for, and its mark.
pub(super) fn parse_cancel(line: &str) -> Option<(&str, CancelKey)> {
    let (mark, key) = line.strip_prefix("cancel ")?.trim_end().split_once(' ')?;
    let (process, secret) = key.split_once(' ')?;
    Some((mark, CancelKey { process: process.parse().ok()?, secret: unhex(secret)?.into() }))
}

/// The answer: the cancel request with this mark has arrived.
pub(super) fn done_line(mark: &str) -> String {
    format!("done {mark}\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn sockets_go_over_with_what_they_are_for() {
        let (old, new) = UnixStream::pair().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let path = PathBuf::from("/tmp/with a\nbreak");
        send(&old, &[(Kind::Tcp, tcp.as_fd()), (Kind::Unix(path.clone()), old.as_fd())]).unwrap();
        let (process, sockets) = receive(&new).unwrap();
        assert_eq!(process, std::process::id());
        let [(Kind::Tcp, socket), (Kind::Unix(named), _)] = &sockets[..] else { panic!("{sockets:?}") };
        assert_eq!(*named, path);
        let copy: std::net::TcpListener = socket.try_clone().unwrap().into();
        assert_eq!(copy.local_addr().unwrap(), tcp.local_addr().unwrap());
    }

    #[test]
    fn a_cancel_request_survives_the_way() {
        let key = CancelKey { process: 7, secret: vec![0, 1, 255, 16].into() };
        assert_eq!(parse_cancel(&cancel_line("1.2", &key)), Some(("1.2", key)));
        assert_eq!(parse_cancel("cancel 1.2 7"), None);
        assert_eq!(parse_cancel("cancel 1.2 7 0g"), None);
    }
}
