//! SCRAM as the client: the messages of a server and the answers to them.
//! <https://www.rfc-editor.org/rfc/rfc5802#section-5>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::attributes::{self, Attributes, Malformed, bounded};
use super::{Iterations, Key, Nonce, ScramKeys, auth_message};
use crate::auth::client::LoginError;

/// The header of a client that does not bind to a channel.
const HEADER: &str = "n,,";

/// client-first is out; server-first comes next.
#[derive(Debug)]
pub(in crate::auth) struct ExpectServerFirst {
    nonce: Nonce,
    client_first_bare: String,
}

/// client-final is out; server-final comes next.
#[derive(Debug)]
pub(in crate::auth) struct ExpectServerFinal {
    /// What the server has to say to prove that it knows the verifier.
    signature: Key,
}

impl ExpectServerFirst {
    /// Starts an exchange; gives client-first. The user name stays empty, as in libpq: the server takes the one of the
    /// startup packet.
    pub(in crate::auth) fn start(nonce: Nonce) -> (Self, String) {
        let client_first_bare = format!("n=,r={}", nonce.0);
        let client_first = format!("{HEADER}{client_first_bare}");
        (Self { nonce, client_first_bare }, client_first)
    }

    /// Reads server-first and gives client-final. Keys are asked for salt and count when everything is right, which
    /// may be expensive.
    pub(in crate::auth) fn read(
        self,
        message: &[u8],
        keys: impl FnOnce(&[u8], Iterations) -> Result<ScramKeys, LoginError>,
    ) -> Result<(ExpectServerFinal, String), LoginError> {
        let message = bounded(message)?;
        let ServerFirst { nonce, salt, iterations } = ServerFirst::parse(message)?;
        if nonce.strip_prefix(&self.nonce.0).is_none_or(str::is_empty) {
            return Err(LoginError::Nonce);
        }
        let keys = keys(&salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let signed = auth_message(self.client_first_bare.as_bytes(), message, without_proof.as_bytes());
        let proof = keys.client_key.xor(&keys.client_key.hash().sign(&signed));
        let client_final = format!("{without_proof},p={}", STANDARD.encode(proof.as_bytes()));
        Ok((ExpectServerFinal { signature: keys.server_key.sign(&signed) }, client_final))
    }
}

impl ExpectServerFinal {
    /// Reads server-final: the server knows the verifier, or this is an error.
    pub(in crate::auth) fn read(self, message: &[u8]) -> Result<(), LoginError> {
        let mut attributes = Attributes::new(bounded(message)?);
        match attributes.next()? {
            Some((b'v', value)) => {
                attributes.end()?;
                let given = Key::new(attributes::digest(value)?);
                if self.signature.is(&given) { Ok(()) } else { Err(LoginError::ServerSignature) }
            }
            Some((b'e', value)) => Err(LoginError::ServerRefused(printable(value))),
            _ => Err(Malformed::Expected('v').into()),
        }
    }
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Box<[u8]>,
    iterations: Iterations,
}

impl<'a> ServerFirst<'a> {
    /// Takes no extensions, as libpq: none exist, and the cap on the count is not to be argued about.
    fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut attributes = Attributes::new(message);
        let nonce = attributes::nonce(attributes.expect(b'r')?)?;
        let salt = attributes::salt(attributes.expect(b's')?)?;
        let iterations = attributes::iterations(attributes.expect(b'i')?)?;
        attributes.end()?;
        Ok(Self { nonce, salt, iterations })
    }
}

/// A server-error-value fit for a log: the names of RFC 5802 are short and have letters and dashes.
fn printable(value: &[u8]) -> String {
    value.iter().filter(|byte| byte.is_ascii_graphic()).take(64).map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::password::Password;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    fn keys(salt: &[u8], iterations: Iterations) -> Result<ScramKeys, LoginError> {
        Ok(ScramKeys::derive(&Password::new("pencil").unwrap(), salt, iterations))
    }

    fn read(server_first: &[u8]) -> Result<(ExpectServerFinal, String), LoginError> {
        ExpectServerFirst::start(Nonce::fixed(NONCE)).0.read(server_first, keys)
    }

    /// The exchange of RFC 7677, 3, whose client does send a user name.
    #[test]
    fn rfc_7677() {
        let expect =
            ExpectServerFirst { nonce: Nonce::fixed(NONCE), client_first_bare: format!("n=user,r={NONCE}") };
        let server_first =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (expect, client_final) = expect.read(server_first, keys).unwrap();
        assert_eq!(
            client_final,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        expect.read(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn client_first_names_no_user() {
        assert_eq!(ExpectServerFirst::start(Nonce::fixed("abc")).1, "n,,n=,r=abc");
    }

    #[test]
    fn hostile_server_first() {
        for message in [
            "",
            "e=other-error",
            "r=,s=QQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqO,s=QQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqX1,s=QQ==,i=1",
            "r=xrOprNGfwEbeRWgbNEkqO,s=QQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx y,s=QQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqO1,s=,i=1",
            "r=rOprNGfwEbeRWgbNEkqO1,s=*,i=1",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=0",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=-1",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=2147483648",
            "r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=1,x=1",
            "m=x,r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=1",
            "s=QQ==,r=rOprNGfwEbeRWgbNEkqO1,i=1",
        ] {
            assert!(read(message.as_bytes()).is_err(), "{message}");
        }
        let long = format!("r={NONCE}{},s=QQ==,i=1", "a".repeat(100_000));
        assert!(read(long.as_bytes()).is_err());
        let long = format!("r={NONCE}{},s=QQ==,i=1", "a".repeat(1_010));
        assert!(read(long.as_bytes()).is_err());
        assert!(read(format!("r={NONCE}1,s=QQ==,i=1").as_bytes()).is_ok());
    }

    #[test]
    fn hostile_server_final() {
        let right = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        for message in ["", "v=", "v=QUJD", right, &format!("{right},x=1"), "x=1", "vv"] {
            let (expect, _) = read(b"r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=1").unwrap();
            assert!(expect.read(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn a_refusal_is_fit_for_a_log() {
        let (expect, _) = read(b"r=rOprNGfwEbeRWgbNEkqO1,s=QQ==,i=1").unwrap();
        let error = expect.read(b"e=bad\n\x1b[31mthing").unwrap_err();
        assert!(matches!(error, LoginError::ServerRefused(text) if text == "bad[31mthing"));
    }
}
