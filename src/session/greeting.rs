//! The first packets: from accept to a StartupMessage or a CancelRequest.

use super::departure::Departure;
use crate::net::Stream;
use crate::wire::{
    CancelKey, ProtocolVersion, Report, Startup, StartupError, StartupPacket, sqlstate, startup_body_length,
};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a connection turns out to be.
pub(super) enum Greeting {
    /// The beginning of a session.
    Startup(Startup),
    /// A request to cancel another session's query.
    Cancel(CancelKey),
}

/// Reads first packets until one says what the connection is for. Encryption is refused with 'N', each kind once.
///
/// Reads exactly the bytes of each packet, so that nothing sent ahead is taken for what comes after.
pub(super) async fn greet(stream: &mut Stream) -> Result<Greeting, Departure> {
    let (mut tls_asked, mut gss_asked) = (false, false);
    loop {
        let body = read_packet(stream).await?;
        let asked = match StartupPacket::parse(&body).map_err(refuse)? {
            StartupPacket::Cancel(key) => return Ok(Greeting::Cancel(key)),
            StartupPacket::Startup(startup) => return Ok(Greeting::Startup(startup)),
            StartupPacket::Ssl => &mut tls_asked,
            StartupPacket::Gss => &mut gss_asked,
        };
        if std::mem::replace(asked, true) {
            // PostgreSQL reads a second request of a kind as a protocol version that it does not know.
            let word: [u8; 4] = body.first_chunk().copied().unwrap_or_default();
            return Err(refuse(StartupError::Version(ProtocolVersion(u32::from_be_bytes(word)))));
        }
        stream.write_all(b"N").await.map_err(|_| Departure::Vanished("client unexpected eof"))?;
    }
}

async fn read_packet(stream: &mut Stream) -> Result<BytesMut, Departure> {
    let mut word = [0; 4];
    // A probe that connects and leaves is no news.
    stream.read_exact(&mut word).await.map_err(|_| Departure::Nothing)?;
    let length = startup_body_length(word).map_err(refuse)?;
    let mut body = BytesMut::zeroed(length);
    stream.read_exact(&mut body).await.map_err(|_| Departure::Vanished("client unexpected eof"))?;
    Ok(body)
}

/// PostgreSQL closes without a word on a length that no packet has: whoever sent it would not understand one.
fn refuse(error: StartupError) -> Departure {
    let code = match error {
        StartupError::Length => return Departure::Vanished("invalid length of startup packet"),
        StartupError::Version(_) => sqlstate::FEATURE_NOT_SUPPORTED,
        StartupError::Layout => sqlstate::PROTOCOL_VIOLATION,
        StartupError::Encoding => sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
    };
    Report::fatal(code, error.to_string()).into()
}
