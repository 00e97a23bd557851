//! The packets that have no tag: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

use super::{TooLong, put_cstr, put_sized, split_cstr};
use bytes::{BufMut, BytesMut};

/// The longest startup packet that is read, its length word included (`MAX_STARTUP_PACKET_LENGTH` of PostgreSQL plus
/// the word).
pub const MAX_STARTUP_PACKET: usize = 10_004;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// A protocol version as it stands in the StartupMessage: the major number in the high half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// What every client and server speaks.
    pub const V3_0: Self = Self(0x0003_0000);
    /// PostgreSQL 18: cancel keys of any length. There is no 3.1.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The number before the dot.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The number behind the dot.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

/// A first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupPacket {
    /// Asks for TLS.
    Ssl,
    /// Asks for GSSAPI encryption.
    Gss,
    /// Asks to cancel what another connection runs.
    Cancel(CancelKey),
    /// Begins a session.
    Startup(Startup),
}

/// What names a session in a CancelRequest: the process number and a secret, of 4 bytes in protocol 3.0 and of 4 to 256
/// bytes in 3.2.
#[derive(Clone)]
pub struct CancelKey {
    /// The number that BackendKeyData calls the process ID.
    pub process: u32,
    /// The secret that goes with it.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey").field("process", &self.process).finish_non_exhaustive()
    }
}

impl PartialEq for CancelKey {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.process == other.process && bool::from(self.secret.ct_eq(&other.secret))
    }
}

impl Eq for CancelKey {}

impl CancelKey {
    /// Writes the CancelRequest that carries this key.
    ///
    /// # Errors
    ///
    /// Only when the secret is absurdly long.
    pub fn put_request(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        put_sized(out, |out| {
            out.put_u32(CANCEL_REQUEST);
            out.put_u32(self.process);
            out.put_slice(&self.secret);
        })
    }
}

/// A StartupMessage, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that it asks for.
    pub version: ProtocolVersion,
    /// Names and values in their order; for a name that comes twice the later one counts.
    pub parameters: Vec<(String, String)>,
    /// Names that begin with `_pq_.`: options of the protocol, not settings.
    pub protocol_options: Vec<String>,
}

impl Startup {
    /// Takes the value that counts for `name` out of the message.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().rposition(|(key, _)| key == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// The value that counts for `name`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why a first packet is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length word is one that no startup packet has; PostgreSQL closes without a word.
    #[error("invalid length of startup packet")]
    Length,
    /// Another protocol.
    #[error("unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", .0.major(), .0.minor())]
    Version(ProtocolVersion),
    /// The names and values do not end as they should.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A name or value that is no UTF-8.
    #[error("startup parameter is not valid UTF-8")]
    Encoding,
}

/// The length of what follows a length word, before anything is allocated for it.
///
/// # Errors
///
/// [`StartupError::Length`] outside of what PostgreSQL accepts.
pub fn startup_body_length(word: [u8; 4]) -> Result<usize, StartupError> {
    let length = usize::try_from(i32::from_be_bytes(word)).map_err(|_| StartupError::Length)?;
    if !(8..=MAX_STARTUP_PACKET).contains(&length) {
        return Err(StartupError::Length);
    }
    Ok(length - 4)
}

impl StartupPacket {
    /// Reads a first packet; `body` is what follows the length word.
    ///
    /// # Errors
    ///
    /// See [`StartupError`].
    pub fn parse(body: &[u8]) -> Result<Self, StartupError> {
        let Some((code, rest)) = body.split_first_chunk::<4>() else {
            return Err(StartupError::Length);
        };
        match u32::from_be_bytes(*code) {
            SSL_REQUEST if rest.is_empty() => Ok(Self::Ssl),
            GSSENC_REQUEST if rest.is_empty() => Ok(Self::Gss),
            CANCEL_REQUEST => parse_cancel(rest).map(Self::Cancel),
            code => parse_startup(ProtocolVersion(code), rest).map(Self::Startup),
        }
    }
}

fn parse_cancel(body: &[u8]) -> Result<CancelKey, StartupError> {
    match body.split_first_chunk::<4>() {
        Some((process, secret)) if (4..=256).contains(&secret.len()) => {
            Ok(CancelKey { process: u32::from_be_bytes(*process), secret: secret.into() })
        }
        _ => Err(StartupError::Length),
    }
}

fn parse_startup(version: ProtocolVersion, mut body: &[u8]) -> Result<Startup, StartupError> {
    if version.major() != 3 {
        return Err(StartupError::Version(version));
    }
    let mut startup = Startup { version, parameters: Vec::new(), protocol_options: Vec::new() };
    loop {
        let (name, rest) = split_cstr(body).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return if rest.is_empty() { Ok(startup) } else { Err(StartupError::Layout) };
        }
        let (value, rest) = split_cstr(rest).ok_or(StartupError::Layout)?;
        let name = text(name)?;
        if name.starts_with("_pq_.") {
            startup.protocol_options.push(name);
        } else {
            startup.parameters.push((name, text(value)?));
        }
        body = rest;
    }
}

fn text(bytes: &[u8]) -> Result<String, StartupError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| StartupError::Encoding)
}

impl Startup {
    /// Writes this StartupMessage.
    ///
    /// # Errors
    ///
    /// Only when the parameters are absurdly long.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        put_sized(out, |out| {
            out.put_u32(self.version.0);
            for (name, value) in &self.parameters {
                put_cstr(out, name.as_bytes());
                put_cstr(out, value.as_bytes());
            }
            out.put_u8(0);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(packet: &[u8]) -> &[u8] {
        &packet[4..]
    }

    proptest! {
        #[test]
        fn a_startup_message_survives_the_round_trip(
            parameters in prop::collection::vec(("[a-z_.]{1,12}", "[^\0]{0,20}"), 0..8)
        ) {
            let startup = Startup { version: ProtocolVersion::V3_2, parameters, protocol_options: Vec::new() };
            let mut out = BytesMut::new();
            startup.put(&mut out).unwrap();
            prop_assert_eq!(StartupPacket::parse(body(&out)).unwrap(), StartupPacket::Startup(startup));
        }

        #[test]
        fn a_cancel_key_survives_the_round_trip(process: u32, secret in prop::collection::vec(any::<u8>(), 4..=256)) {
            let key = CancelKey { process, secret: secret.into() };
            let mut out = BytesMut::new();
            key.put_request(&mut out).unwrap();
            prop_assert_eq!(StartupPacket::parse(body(&out)).unwrap(), StartupPacket::Cancel(key));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = StartupPacket::parse(&bytes);
            let mut cancel = CANCEL_REQUEST.to_be_bytes().to_vec();
            cancel.extend_from_slice(&bytes);
            let _ = StartupPacket::parse(&cancel);
            let mut startup = ProtocolVersion::V3_0.0.to_be_bytes().to_vec();
            startup.extend_from_slice(&bytes);
            let _ = StartupPacket::parse(&startup);
        }
    }

    #[test]
    fn layouts_are_judged_as_postgresql_does() {
        let parse = |parameters: &[u8]| {
            let mut body = ProtocolVersion::V3_0.0.to_be_bytes().to_vec();
            body.extend_from_slice(parameters);
            StartupPacket::parse(&body)
        };
        assert_eq!(parse(b"user\0nobody\0"), Err(StartupError::Layout));
        assert_eq!(parse(b"user\0nobody\0\0x"), Err(StartupError::Layout));
        assert_eq!(parse(b"user\0nobody"), Err(StartupError::Layout));
        let Ok(StartupPacket::Startup(startup)) = parse(b"user\0a\0user\0b\0_pq_.x\x001\0\0") else {
            panic!()
        };
        assert_eq!(startup.parameter("user"), Some("b"));
        assert_eq!(startup.protocol_options, ["_pq_.x"]);
    }

    #[test]
    fn lengths_are_bounded_as_postgresql_does() {
        for length in [-1i32, 0, 7, 10_005, i32::MAX] {
            assert_eq!(startup_body_length(length.to_be_bytes()), Err(StartupError::Length), "{length}");
        }
        assert_eq!(startup_body_length(8i32.to_be_bytes()), Ok(4));
        assert_eq!(startup_body_length(10_004i32.to_be_bytes()), Ok(10_000));
        assert!(startup_body_length(*b"GET ").is_err());
    }

    #[test]
    fn a_second_ssl_request_reads_as_an_unknown_protocol() {
        let error = StartupError::Version(ProtocolVersion(SSL_REQUEST));
        assert_eq!(error.to_string(), "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2");
    }
}
