//! SCRAM as the server: the messages of a client and the answers to them.
//! <https://www.rfc-editor.org/rfc/rfc5802#section-5>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::attributes::{self, Attributes, Malformed, bounded};
use super::{Iterations, Key, Nonce, ScramCredential, ScramVerifier, auth_message};
use crate::auth::sasl::ChannelBinding;
use crate::auth::server::Reason;

/// The one type of binding PostgreSQL knows.
const BINDING_TYPE: &[u8] = b"tls-server-end-point";

/// The mechanism has been chosen; client-first comes next.
#[derive(Debug)]
pub(in crate::auth) struct ExpectClientFirst {
    pub(in crate::auth) nonce: Nonce,
    pub(in crate::auth) salt: Box<[u8]>,
    pub(in crate::auth) iterations: Iterations,
    pub(in crate::auth) binding: ChannelBinding,
    /// Whether the client chose the mechanism with channel binding.
    pub(in crate::auth) plus: bool,
}

/// server-first is out; client-final comes next.
#[derive(Debug)]
pub(in crate::auth) struct ExpectClientFinal {
    client_first_bare: Vec<u8>,
    server_first: String,
    /// Of both sides.
    nonce: String,
    /// What `c=` has to say: header and binding data of client-first, in base64.
    binding: String,
}

impl ExpectClientFirst {
    /// Reads client-first and gives server-first. The user name in it is ignored, as in PostgreSQL.
    pub(in crate::auth) fn read(self, message: &[u8]) -> Result<(ExpectClientFinal, String), Reason> {
        let message = bounded(message)?;
        let (header, bare) = split_header(message)?;
        let binding = STANDARD.encode([header, self.bound_data(header)?].concat());

        let mut attributes = Attributes::new(bare);
        attributes.expect(b'n')?;
        let nonce = [attributes::nonce(attributes.expect(b'r')?)?, &self.nonce.0].concat();
        // Optional extensions are to be ignored, but they must be attributes.
        while attributes.next()?.is_some() {}

        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&self.salt), self.iterations);
        let next = ExpectClientFinal {
            client_first_bare: bare.to_vec(),
            server_first: server_first.clone(),
            nonce,
            binding,
        };
        Ok((next, server_first))
    }

    /// The binding data that goes with this header; an error where flag, mechanism and connection do not go together.
    fn bound_data(&self, header: &[u8]) -> Result<&[u8], Reason> {
        let mut fields = header.split(|&byte| byte == b',');
        let flag = fields.next().unwrap_or_default();
        if fields.next().is_some_and(|authzid| !authzid.is_empty()) {
            return Err(Reason::AuthorizationIdentity);
        }
        match (flag, &self.binding) {
            (b"n", _) if !self.plus => Ok(b""),
            // The client would bind but believes that it was not offered: somebody took the offer out on the way.
            (b"y", ChannelBinding::TlsServerEndPoint(_)) => Err(Reason::Downgrade),
            (b"y", ChannelBinding::Unavailable) if !self.plus => Ok(b""),
            ([b'p', b'=', kind @ ..], ChannelBinding::TlsServerEndPoint(data)) if self.plus => {
                if kind == BINDING_TYPE { Ok(data) } else { Err(Reason::ChannelBinding) }
            }
            (b"n" | b"y" | [b'p', b'=', ..], _) => Err(Reason::ChannelBinding),
            _ => Err(Malformed::BindingFlag.into()),
        }
    }
}

impl ExpectClientFinal {
    /// Reads client-final. Only when everything but the proof is right is the verifier asked for, which may be
    /// expensive; gives the login that the proof reveals, and server-final.
    pub(in crate::auth) fn read(
        self,
        message: &[u8],
        verifier: impl FnOnce() -> ScramVerifier,
    ) -> Result<(ScramCredential, String), Reason> {
        let message = bounded(message)?;
        let mut attributes = Attributes::new(message);
        let binding = attributes.expect(b'c')?;
        let nonce = attributes.expect(b'r')?;
        let proof = proof(attributes)?;
        if nonce != self.nonce.as_bytes() {
            return Err(Reason::Nonce);
        }
        if binding != self.binding.as_bytes() {
            return Err(Reason::ChannelBinding);
        }
        let without_proof = &message[..message.len() - ",p=".len() - proof.len()];
        let signed = auth_message(&self.client_first_bare, self.server_first.as_bytes(), without_proof);
        check_proof(&Key::new(attributes::digest(proof)?), &signed, verifier)
    }
}

/// The gs2-header with its closing comma, and client-first-message-bare.
fn split_header(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut commas = message.iter().enumerate().filter(|&(_, &byte)| byte == b',').map(|(at, _)| at);
    let end = commas.nth(1).ok_or(Malformed::BindingFlag)?;
    Ok(message.split_at(end + 1))
}

/// The value of `p=`, behind optional extensions and with nothing behind itself.
fn proof(mut attributes: Attributes<'_>) -> Result<&[u8], Malformed> {
    loop {
        match attributes.next()? {
            Some((b'p', value)) => {
                attributes.end()?;
                return Ok(value);
            }
            Some((b'm', _)) => return Err(Malformed::Extension),
            Some(_) => {}
            None => return Err(Malformed::Expected('p')),
        }
    }
}

/// ClientKey := ClientProof XOR ClientSignature must hash to StoredKey.
fn check_proof(
    proof: &Key,
    signed: &[u8],
    verifier: impl FnOnce() -> ScramVerifier,
) -> Result<(ScramCredential, String), Reason> {
    let verifier = verifier();
    let client_key = proof.xor(&verifier.stored_key.sign(signed));
    if !client_key.hash().is(&verifier.stored_key) {
        return Err(Reason::WrongPassword);
    }
    let signature = verifier.server_key.sign(signed);
    let server_final = format!("v={}", STANDARD.encode(signature.as_bytes()));
    Ok((verifier.credential(client_key), server_final))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::password::Password;

    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn salt() -> Vec<u8> {
        STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap()
    }

    fn verifier() -> ScramVerifier {
        ScramVerifier::derive(&Password::new("pencil").unwrap(), &salt(), Iterations::DEFAULT)
    }

    fn expect_first(binding: ChannelBinding, plus: bool) -> ExpectClientFirst {
        let nonce = Nonce::fixed("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        ExpectClientFirst { nonce, salt: salt().into(), iterations: Iterations::DEFAULT, binding, plus }
    }

    fn first(message: &[u8]) -> Result<(ExpectClientFinal, String), Reason> {
        expect_first(ChannelBinding::Unavailable, false).read(message)
    }

    fn finally(message: &[u8]) -> Reason {
        let (expect, _) = first(CLIENT_FIRST).unwrap();
        expect.read(message, || panic!("the verifier is not needed")).unwrap_err()
    }

    /// The exchange of RFC 7677, 3.
    #[test]
    fn rfc_7677() {
        let (expect, server_first) = first(CLIENT_FIRST).unwrap();
        assert_eq!(server_first, SERVER_FIRST);
        let (credential, server_final) = expect.read(CLIENT_FINAL, verifier).unwrap();
        assert_eq!(server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let keys = credential.keys_for(&salt(), Iterations::DEFAULT).unwrap();
        assert!(verifier().accepts(keys));
    }

    #[test]
    fn wrong_proofs_are_refused() {
        let (expect, _) = first(CLIENT_FIRST).unwrap();
        let wrong = String::from_utf8_lossy(CLIENT_FINAL).replace("p=dH", "p=eH");
        assert_eq!(expect.read(wrong.as_bytes(), verifier).unwrap_err(), Reason::WrongPassword);
    }

    #[test]
    fn hostile_client_first() {
        for message in [
            b"".as_slice(),
            b"n",
            b"n,",
            b"n,,",
            b"n,,n=user",
            b"n,,n=user,",
            b"n,,n=user,r=",
            b"n,,n=user,r=a b",
            b"n,,n=user,r=abc,",
            b"n,,n=user,r=abc\0",
            b"n,,r=abc,n=user",
            b"n,,m=x,n=user,r=abc",
            b"n,a=bob,n=user,r=abc",
            b"n,bob,n=user,r=abc",
            b"x,,n=user,r=abc",
            b"p,,n=user,r=abc",
            b"p=tls-server-end-point,,n=user,r=abc",
            b",,,,,,,,",
        ] {
            assert!(first(message).is_err(), "{message:?}");
        }
        let long = [b"n,,n=user,r=".as_slice(), &[b'a'; 100_000]].concat();
        assert_eq!(first(&long).unwrap_err(), Malformed::Message.into());
        assert_eq!(first(&long[..2000]).unwrap_err(), Malformed::Nonce.into());
    }

    #[test]
    fn optional_extensions_are_ignored() {
        assert!(first(b"n,,n=,r=abc,x=1,y=2").is_ok());
    }

    #[test]
    fn hostile_client_final() {
        const NONCE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        const PROOF: &str = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(finally(format!("c=biws,{NONCE}").as_bytes()), Malformed::Expected('p').into());
        assert_eq!(finally(format!("c=biws,{PROOF}").as_bytes()), Malformed::Expected('r').into());
        assert_eq!(finally(format!("{NONCE},{PROOF}").as_bytes()), Malformed::Expected('c').into());
        assert_eq!(finally(format!("c=biws,{NONCE},{PROOF},x=1").as_bytes()), Malformed::Trailing.into());
        assert_eq!(finally(format!("c=biws,{NONCE},{PROOF},").as_bytes()), Malformed::Trailing.into());
        assert_eq!(finally(format!("c=biws,{NONCE},m=1,{PROOF}").as_bytes()), Malformed::Extension.into());
        assert_eq!(finally(format!("c=eSws,{NONCE},{PROOF}").as_bytes()), Reason::ChannelBinding);
        assert_eq!(finally(format!("c=biws,{NONCE}x,{PROOF}").as_bytes()), Reason::Nonce);
        assert_eq!(finally(format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,{PROOF}").as_bytes()), Reason::Nonce);
        assert_eq!(finally(format!("c=biws,{NONCE},p=").as_bytes()), Malformed::Digest.into());
        assert_eq!(finally(format!("c=biws,{NONCE},p=QUJD").as_bytes()), Malformed::Digest.into());
        assert_eq!(finally(b""), Malformed::Message.into());
    }

    /// Flag × mechanism × connection.
    #[test]
    fn channel_binding_combinations() {
        let tls = || ChannelBinding::TlsServerEndPoint(vec![1, 2, 3]);
        let read = |flag: &str, binding: ChannelBinding, plus: bool| {
            let outcome = expect_first(binding, plus).read(format!("{flag},,n=,r=abc").as_bytes());
            outcome.map(|(expect, _)| expect.binding)
        };
        assert_eq!(read("n", ChannelBinding::Unavailable, false), Ok("biws".into()));
        assert_eq!(read("y", ChannelBinding::Unavailable, false), Ok("eSws".into()));
        assert_eq!(read("n", tls(), false), Ok("biws".into()));
        assert_eq!(read("y", tls(), false), Err(Reason::Downgrade));
        assert_eq!(read("n", tls(), true), Err(Reason::ChannelBinding));
        assert_eq!(read("y", tls(), true), Err(Reason::Downgrade));
        assert_eq!(read("p=tls-unique", tls(), true), Err(Reason::ChannelBinding));
        assert_eq!(read("p=tls-server-end-point", tls(), false), Err(Reason::ChannelBinding));
        let bound = STANDARD.encode(b"p=tls-server-end-point,,\x01\x02\x03");
        assert_eq!(read("p=tls-server-end-point", tls(), true), Ok(bound));
    }
}
