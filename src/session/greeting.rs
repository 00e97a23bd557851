//! The first packets: from accept to a StartupMessage or a CancelRequest.

use super::departure::Departure;
use crate::net::Dialogue;
use crate::wire::{
    CancelKey, ProtocolVersion, Report, Startup, StartupError, StartupPacket, sqlstate, startup_body_length,
};

/// Bytes of the length word.
const WORD: usize = 4;

/// The client left in the middle of a packet.
const GONE: Departure = Departure::Vanished("client unexpected eof");

/// What a connection turns out to be.
pub(super) enum Greeting {
    /// The beginning of a session.
    Startup(Startup),
    /// A request to cancel another session's query.
    Cancel(CancelKey),
}

/// Reads first packets until one says what the connection is for. Encryption is refused with 'N', each kind once.
///
/// What a client sends behind a request, without waiting for the answer, is plain like all it sends. Whoever answers
/// 'S' one day must find nothing in the input first: it would be taken for what came encrypted.
pub(super) async fn greet(dialogue: &mut Dialogue) -> Result<Greeting, Departure> {
    let (mut tls_asked, mut gss_asked) = (false, false);
    loop {
        let length = packet_length(dialogue).await?;
        // No packet is longer than a block.
        let body = dialogue.bytes(WORD + length).await.map_err(|_| GONE)?.get(WORD..).unwrap_or_default();
        let word: [u8; WORD] = body.first_chunk().copied().unwrap_or_default();
        let packet = StartupPacket::parse(body).map_err(refuse)?;
        dialogue.input.drop_fresh(WORD + length);
        let asked = match packet {
            StartupPacket::Cancel(key) => return Ok(Greeting::Cancel(key)),
            StartupPacket::Startup(startup) => return Ok(Greeting::Startup(startup)),
            StartupPacket::Ssl => &mut tls_asked,
            StartupPacket::Gss => &mut gss_asked,
        };
        if std::mem::replace(asked, true) {
            // PostgreSQL reads a second request of a kind as a protocol version that it does not know.
            return Err(refuse(StartupError::Version(ProtocolVersion(u32::from_be_bytes(word)))));
        }
        dialogue.send(b"N").await.map_err(|_| GONE)?;
    }
}

/// What the length word says of the rest.
async fn packet_length(dialogue: &mut Dialogue) -> Result<usize, Departure> {
    // A probe that connects and leaves is no news.
    let word = dialogue.bytes(WORD).await.map_err(|_| Departure::Nothing)?;
    startup_body_length(word.first_chunk().copied().unwrap_or_default()).map_err(refuse)
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
