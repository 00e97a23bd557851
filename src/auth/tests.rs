//! Our server against our client, and both against anything.

use proptest::prelude::*;

use super::scram::Iterations;
use super::*;

/// Enough to tell that the count is used, few enough for hundreds of cases.
const FEW: u32 = 3;

fn few() -> Iterations {
    Iterations::new(FEW).unwrap()
}

fn terms(method: Method) -> Terms {
    Terms { method, iterations: few(), mock: Mock::new(b"seed", few(), Disguise::Scram) }
}

fn password(bytes: impl Into<Vec<u8>>) -> Password {
    Password::new(bytes).unwrap()
}

fn scram(text: &str) -> StoredSecret {
    StoredSecret::Scram(ScramVerifier::derive(&password(text), b"a salt of server", few()))
}

fn md5(text: &str, user: &str) -> StoredSecret {
    StoredSecret::Md5(Md5Secret::derive(&password(text), user))
}

fn plain(text: &str) -> StoredSecret {
    StoredSecret::Plain(password(text))
}

/// Every form of the secret `pencil` of `alice`, and none.
fn secrets() -> Vec<(&'static str, Option<StoredSecret>)> {
    vec![
        ("plain", Some(plain("pencil"))),
        ("md5", Some(md5("pencil", "alice"))),
        ("scram", Some(scram("pencil"))),
        ("absent", Some(StoredSecret::Absent)),
        ("unknown", None),
    ]
}

/// Begins without TLS, and where nothing was derived before.
fn begin(terms: &Terms, user: &str, secret: Option<&StoredSecret>) -> Step {
    Exchange::begin(terms, user, secret, ChannelBinding::Unavailable, &KeyCache::new(1))
}

/// What both sides came to.
#[derive(Debug)]
enum Outcome {
    In(Proof),
    Out(Reason),
    Gone(LoginError),
}

/// Lets a client log in as alice; also gives the first request.
fn meet(
    terms: &Terms,
    secret: Option<&StoredSecret>,
    credential: Credential,
    cache: &KeyCache,
) -> (Vec<u8>, Outcome) {
    let mut login = ClientLogin::new("alice", credential, LeastMethod::Any);
    let mut step = Exchange::begin(terms, "alice", secret, ChannelBinding::Unavailable, cache);
    let mut first = None;
    loop {
        let (exchange, challenge) = match step {
            Step::Continue(exchange, challenge) => (exchange, challenge),
            Step::Done(proof, last) => return (first.unwrap_or_default(), accept(login, proof, last, cache)),
            Step::Denied(denial) => return (first.unwrap_or_default(), Outcome::Out(denial.reason())),
        };
        let request = challenge.body();
        first.get_or_insert_with(|| request.clone());
        match answer(login, &request, cache) {
            Ok(LoginStep::Send(next, body)) => {
                login = next;
                step = exchange.step(&body, cache);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (request, Outcome::Gone(error)),
        }
    }
}

fn answer(login: ClientLogin, request: &[u8], cache: &KeyCache) -> Result<LoginStep, LoginError> {
    let (code, data) = request.split_first_chunk().unwrap();
    login.on_authentication(i32::from_be_bytes(*code), data, cache)
}

fn accept(mut login: ClientLogin, proof: Proof, last: Option<Challenge>, cache: &KeyCache) -> Outcome {
    if let Some(last) = last {
        match answer(login, &last.body(), cache) {
            Ok(LoginStep::Wait(next)) => login = next,
            other => panic!("{other:?}"),
        }
    }
    match login.on_authentication(0, b"", cache) {
        Ok(LoginStep::Accepted(_)) => Outcome::In(proof),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Outcome::Gone(error),
    }
}

/// Method × secret: what is asked first, and whether the right and the wrong password get in.
#[test]
fn every_method_with_every_secret() {
    const CLEARTEXT: i32 = 3;
    const MD5: i32 = 5;
    const SASL: i32 = 10;
    let expected = [
        (Method::Plain, [CLEARTEXT; 5], [true, true, true, false, false]),
        (Method::Md5, [MD5, MD5, SASL, SASL, SASL], [true, true, true, false, false]),
        (Method::ScramSha256, [SASL; 5], [true, false, true, false, false]),
    ];
    for (method, requests, admitted) in expected {
        for (index, (name, secret)) in secrets().into_iter().enumerate() {
            let (terms, cache) = (terms(method), KeyCache::new(8));
            let (request, outcome) =
                meet(&terms, secret.as_ref(), Credential::Plain(password("pencil")), &cache);
            assert_eq!(&request[..4], requests[index].to_be_bytes(), "{method:?} {name}");
            assert_eq!(matches!(outcome, Outcome::In(_)), admitted[index], "{method:?} {name}: {outcome:?}");

            let (_, outcome) = meet(&terms, secret.as_ref(), Credential::Plain(password("Pencil")), &cache);
            assert!(matches!(outcome, Outcome::Out(_)), "{method:?} {name}: {outcome:?}");
        }
    }
}

#[test]
fn any_and_trust_ask_nothing() {
    assert!(matches!(begin(&terms(Method::Any), "x", None), Step::Done(..)));
    assert!(matches!(begin(&terms(Method::Trust), "x", None), Step::Denied(_)));
    let listed = StoredSecret::Absent;
    assert!(matches!(begin(&terms(Method::Trust), "x", Some(&listed)), Step::Done(..)));
}

#[test]
fn the_log_knows_the_reason_and_the_client_does_not() {
    let reasons = [Reason::WrongPassword, Reason::Md5Secret, Reason::WrongPassword];
    let ends = [Reason::NoSecret, Reason::UnknownUser];
    for ((name, secret), reason) in secrets().into_iter().zip(reasons.into_iter().chain(ends)) {
        let credential = Credential::Plain(password("wrong"));
        let (_, outcome) = meet(&terms(Method::ScramSha256), secret.as_ref(), credential, &KeyCache::new(8));
        assert!(matches!(outcome, Outcome::Out(found) if found == reason), "{name}: {outcome:?}");
    }
    let Step::Denied(denial) = begin(&terms(Method::Trust), "ghost", None) else { panic!("denied") };
    assert_eq!(denial.client_message(), "password authentication failed for user \"ghost\"");
    assert_eq!(Denial::SQLSTATE, "28P01");
}

/// The two requests of SCRAM as a client sees them: nonce, salt and the rest of server-first.
fn server_first(terms: &Terms, user: &str, secret: Option<&StoredSecret>) -> (Vec<u8>, String) {
    let Step::Continue(exchange, first) = begin(terms, user, secret) else { panic!("asked") };
    let response = sasl::initial_response("SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
    let Step::Continue(_, Challenge::SaslContinue(data)) = exchange.step(&response, &KeyCache::new(1)) else {
        panic!("asked")
    };
    (first.body(), String::from_utf8(data).unwrap())
}

#[test]
fn ghosts_look_like_users() {
    let salt = |message: &str| message.split(",s=").nth(1).unwrap().to_owned();
    let terms = terms(Method::ScramSha256);
    let (real_request, real) = server_first(&terms, "alice", Some(&scram("pencil")));
    for (name, secret) in secrets() {
        let (request, message) = server_first(&terms, "alice", secret.as_ref());
        assert_eq!((request, message.len()), (real_request.clone(), real.len()), "{name}");
        assert!(message.starts_with("r=abc") && message.ends_with(",i=3"), "{name}");
        let (_, again) = server_first(&terms, "alice", secret.as_ref());
        assert_eq!(salt(&message), salt(&again), "{name}");
        assert_ne!(message, again, "{name}: a nonce was used twice");
    }
    let (_, one) = server_first(&terms, "ghost", None);
    let (_, other) = server_first(&terms, "spook", None);
    assert_ne!(salt(&one), salt(&other));
}

#[test]
fn a_client_first_may_come_late() {
    let secret = scram("pencil");
    let Step::Continue(exchange, _) = begin(&terms(Method::Md5), "alice", Some(&secret)) else {
        panic!("asked")
    };
    let cache = KeyCache::new(1);
    let Step::Continue(exchange, Challenge::SaslContinue(data)) =
        exchange.step(b"SCRAM-SHA-256\0\xff\xff\xff\xff", &cache)
    else {
        panic!("asked")
    };
    assert!(data.is_empty());
    assert!(matches!(exchange.step(b"n,,n=,r=abc", &cache), Step::Continue(_, Challenge::SaslContinue(_))));
}

#[test]
fn only_offered_mechanisms_are_taken() {
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "", "scram-sha-256"] {
        let Step::Continue(exchange, _) = begin(&terms(Method::ScramSha256), "x", None) else {
            panic!("asked")
        };
        let body = sasl::initial_response(mechanism, b"n,,n=,r=abc").unwrap();
        let step = exchange.step(&body, &KeyCache::new(1));
        assert!(matches!(step, Step::Denied(denial) if denial.reason() == Reason::Mechanism), "{mechanism}");
    }
}

#[test]
fn empty_passwords_never_get_in() {
    let empty_md5 = StoredSecret::parse(b"md5c84258e9c39059a89ab77d846ddab909").unwrap();
    for secret in [Some(empty_md5), Some(StoredSecret::Absent), Some(plain("x")), Some(scram("x")), None] {
        for body in [b"\0".as_slice(), b""] {
            let begun = begin(&terms(Method::Plain), "admin", secret.as_ref());
            let Step::Continue(exchange, _) = begun else { panic!("asked") };
            assert!(matches!(exchange.step(body, &KeyCache::new(1)), Step::Denied(_)));
        }
    }
}

#[test]
fn an_md5_secret_of_the_empty_password_is_none() {
    use ::md5::{Digest, Md5};
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let stored = hex(&Md5::digest(b"alice"));
    let secret = StoredSecret::parse(format!("md5{stored}").as_bytes()).unwrap();
    let begun = begin(&terms(Method::Md5), "alice", Some(&secret));
    let Step::Continue(exchange, Challenge::Md5Password(salt)) = begun else { panic!("asked") };
    let answer = hex(&Md5::digest([stored.as_bytes(), &salt].concat()));
    let step = exchange.step(format!("md5{answer}\0").as_bytes(), &KeyCache::new(1));
    assert!(matches!(step, Step::Denied(denial) if denial.reason() == Reason::NoSecret));
}

#[test]
fn password_messages_end_with_their_string() {
    for body in [b"pencil".as_slice(), b"pencil\0x", b"pencil\0\0", b"pencil "] {
        let secret = plain("pencil");
        let begun = begin(&terms(Method::Plain), "alice", Some(&secret));
        let Step::Continue(exchange, _) = begun else { panic!("asked") };
        assert!(matches!(exchange.step(body, &KeyCache::new(1)), Step::Denied(_)), "{body:?}");
    }
}

#[test]
fn a_long_token_is_a_password() {
    let token = "x".repeat(65_000);
    let (_, outcome) = meet(
        &terms(Method::Plain),
        Some(&plain(&token)),
        Credential::Plain(password(token.as_str())),
        &KeyCache::new(1),
    );
    assert!(matches!(outcome, Outcome::In(_)));
}

/// Only what may run PBKDF2 says so.
#[test]
fn cost_is_announced() {
    let first_step = |method, secret: &StoredSecret| match begin(&terms(method), "alice", Some(secret)) {
        Step::Continue(exchange, _) => exchange,
        other => panic!("{other:?}"),
    };
    assert!(first_step(Method::Plain, &scram("x")).is_expensive());
    assert!(!first_step(Method::Plain, &plain("x")).is_expensive());
    for (secret, expensive) in [(plain("x"), true), (scram("x"), false)] {
        let exchange = first_step(Method::ScramSha256, &secret);
        assert!(!exchange.is_expensive());
        let response = sasl::initial_response("SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
        let Step::Continue(exchange, _) = exchange.step(&response, &KeyCache::new(1)) else {
            panic!("asked")
        };
        assert_eq!(exchange.is_expensive(), expensive);
    }
}

/// The second login with a plain secret finds the keys, and is as cheap as one with a verifier.
#[test]
fn what_was_derived_before_costs_nothing() {
    let (terms, secret, known) = (terms(Method::ScramSha256), plain("pencil"), KeyCache::new(8));
    let (_, outcome) = meet(&terms, Some(&secret), Credential::Plain(password("pencil")), &known);
    assert!(matches!(outcome, Outcome::In(_)), "{outcome:?}");
    let response = sasl::initial_response("SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
    for (cache, expensive) in [(KeyCache::new(8), true), (known, false)] {
        let begun = Exchange::begin(&terms, "alice", Some(&secret), ChannelBinding::Unavailable, &cache);
        let Step::Continue(exchange, _) = begun else { panic!("asked") };
        let Step::Continue(exchange, _) = exchange.step(&response, &cache) else { panic!("asked") };
        assert_eq!(exchange.is_expensive(), expensive);
    }
    let (_, outcome) = meet(&terms, Some(&secret), Credential::Plain(password("Pencil")), &KeyCache::new(8));
    assert!(matches!(outcome, Outcome::Out(Reason::WrongPassword)), "{outcome:?}");
}

/// The proof of a client opens a server with the same verifier, and no other.
#[test]
fn revealed_keys_log_in_again() {
    let (cache, secret) = (KeyCache::new(8), scram("pencil"));
    let terms = terms(Method::ScramSha256);
    let (_, outcome) = meet(&terms, Some(&secret), Credential::Plain(password("pencil")), &cache);
    let Outcome::In(proof) = outcome else { panic!("{outcome:?}") };
    assert_eq!(proof.user(), "alice");
    let keys = Credential::Scram(proof.scram().unwrap().clone());

    let (_, outcome) = meet(&terms, Some(&secret), keys.clone(), &cache);
    assert!(matches!(outcome, Outcome::In(_)), "{outcome:?}");
    let (_, outcome) = meet(&terms, Some(&plain("pencil")), keys.clone(), &cache);
    assert!(matches!(outcome, Outcome::Gone(LoginError::StaleKeys)), "{outcome:?}");
    let (_, outcome) = meet(&terms, Some(&scram("changed")), keys, &cache);
    assert!(matches!(outcome, Outcome::Out(Reason::WrongPassword)), "{outcome:?}");
}

mod as_client {
    //! Servers that do not keep to the rules.

    use super::*;

    fn login(credential: Credential, least: LeastMethod) -> ClientLogin {
        ClientLogin::new("alice", credential, least)
    }

    fn pencil() -> Credential {
        Credential::Plain(password("pencil"))
    }

    fn first(
        credential: Credential,
        least: LeastMethod,
        code: i32,
        data: &[u8],
    ) -> Result<LoginStep, LoginError> {
        login(credential, least).on_authentication(code, data, &KeyCache::new(1))
    }

    #[test]
    fn mechanisms_are_chosen_from_the_whole_list() {
        for list in
            [b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".as_slice(), b"SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0"]
        {
            let Ok(LoginStep::Send(_, body)) = first(pencil(), LeastMethod::Any, 10, list) else {
                panic!("answered")
            };
            let sent = sasl::InitialResponse::parse(&body).unwrap();
            assert_eq!(sent.mechanism, b"SCRAM-SHA-256");
            assert!(sent.data.unwrap().starts_with(b"n,,n=,r="));
        }
        for list in [b"\0".as_slice(), b"SCRAM-SHA-256-PLUS\0\0", b"SCRAM-SHA-1\0\0"] {
            let error = first(pencil(), LeastMethod::Any, 10, list).unwrap_err();
            assert!(matches!(error, LoginError::NoMechanism), "{error:?}");
        }
        for list in [b"".as_slice(), b"SCRAM-SHA-256", b"SCRAM-SHA-256\0"] {
            let error = first(pencil(), LeastMethod::Any, 10, list).unwrap_err();
            assert!(matches!(error, LoginError::Malformed(_)), "{error:?}");
        }
    }

    #[test]
    fn nothing_leaves_by_a_weaker_method() {
        for (least, code, data) in [
            (LeastMethod::Md5, 3, b"".as_slice()),
            (LeastMethod::ScramSha256, 3, b""),
            (LeastMethod::ScramSha256, 5, b"salt"),
            (LeastMethod::ScramSha256, 0, b""),
        ] {
            let error = first(pencil(), least, code, data).unwrap_err();
            assert!(matches!(error, LoginError::Weak(_)), "{code}: {error:?}");
        }
    }

    #[test]
    fn what_is_missing_or_unfit_is_named() {
        let secret = || Credential::from(&md5("pencil", "alice"));
        assert!(matches!(Credential::from(&scram("pencil")), Credential::None));
        for (code, data) in [(3, b"".as_slice()), (5, b"salt"), (10, b"SCRAM-SHA-256\0\0")] {
            let error = first(Credential::None, LeastMethod::Any, code, data).unwrap_err();
            assert!(matches!(error, LoginError::NoPassword(_)), "{error:?}");
        }
        let error = first(secret(), LeastMethod::Any, 10, b"SCRAM-SHA-256\0\0").unwrap_err();
        assert_eq!(error.to_string(), "server asks for SCRAM-SHA-256, which an md5 secret cannot answer");
        assert!(matches!(first(secret(), LeastMethod::Any, 3, b"").unwrap_err(), LoginError::Unfit { .. }));
        for (code, name) in
            [(2, "Kerberos"), (7, "GSSAPI"), (8, "GSSAPI"), (9, "SSPI"), (6, "SCM credential")]
        {
            let error = first(pencil(), LeastMethod::Any, code, b"").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("server asks for {name} authentication, which is not supported")
            );
        }
        for code in [11, 12, 13, -1, i32::MAX] {
            let error = first(pencil(), LeastMethod::Any, code, b"").unwrap_err();
            assert!(matches!(error, LoginError::Unexpected(found) if found == code), "{error:?}");
        }
    }

    #[test]
    fn request_data_has_its_length() {
        for (code, data) in [(0, b"x".as_slice()), (3, b"x"), (5, b"sal"), (5, b"salts"), (5, b"")] {
            let error = first(pencil(), LeastMethod::Any, code, data).unwrap_err();
            assert!(matches!(error, LoginError::Malformed(_)), "{code}: {error:?}");
        }
    }

    #[test]
    fn one_answer_is_all_a_server_gets() {
        let cache = KeyCache::new(1);
        for (code, data) in [(3, b"".as_slice()), (5, b"salt")] {
            for (next, data_of_next) in
                [(3, b"".as_slice()), (5, b"salt"), (10, b"SCRAM-SHA-256\0\0"), (11, b"")]
            {
                let Ok(LoginStep::Send(login, _)) = first(pencil(), LeastMethod::Any, code, data) else {
                    panic!("answered")
                };
                let error = login.on_authentication(next, data_of_next, &cache).unwrap_err();
                assert!(matches!(error, LoginError::Unexpected(_)), "{code} {next}: {error:?}");
            }
        }
    }

    /// A server that leaves out or forges its signature.
    #[test]
    fn the_server_must_prove_itself() {
        let cache = KeyCache::new(1);
        let scram_begun = || match first(pencil(), LeastMethod::Any, 10, b"SCRAM-SHA-256\0\0") {
            Ok(LoginStep::Send(login, body)) => (login, String::from_utf8_lossy(&body).into_owned()),
            other => panic!("{other:?}"),
        };
        let (login, _) = scram_begun();
        assert!(matches!(login.on_authentication(0, b"", &cache), Err(LoginError::NoServerSignature)));
        let (login, _) = scram_begun();
        assert!(matches!(login.on_authentication(3, b"", &cache), Err(LoginError::Unexpected(3))));
        let (login, _) = scram_begun();
        assert!(matches!(login.on_authentication(12, b"v=", &cache), Err(LoginError::Unexpected(12))));

        let finals: [(i32, &[u8]); 4] = [
            (0, b""),
            (12, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            (12, b"e=invalid-proof"),
            (5, b"salt"),
        ];
        for (code, data) in finals {
            let (login, sent) = scram_begun();
            assert!(login.is_expensive());
            let nonce = sent.split("r=").nth(1).unwrap();
            let server_first = format!("r={nonce}more,s=QQ==,i=1");
            let Ok(LoginStep::Send(login, _)) = login.on_authentication(11, server_first.as_bytes(), &cache)
            else {
                panic!("answered")
            };
            assert!(!login.is_expensive());
            assert!(login.on_authentication(code, data, &cache).is_err(), "{code}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any password that is one logs in by every method, its neighbour does not.
    #[test]
    fn round_trip(bytes in prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 1..40),
        "[ -~]{1,20}".prop_map(String::into_bytes),
    ]) {
        let Ok(right) = Password::new(bytes.clone()) else { return Ok(()) };
        let wrong = Password::new([bytes.as_slice(), b"x"].concat()).unwrap();
        let cache = KeyCache::new(4);
        for secret in [
            StoredSecret::Plain(right.clone()),
            StoredSecret::Md5(Md5Secret::derive(&right, "alice")),
            StoredSecret::Scram(ScramVerifier::derive(&right, b"salt", few())),
        ] {
            for method in [Method::Plain, Method::Md5, Method::ScramSha256] {
                if matches!((&secret, method), (StoredSecret::Md5(_), Method::ScramSha256)) {
                    continue;
                }
                let (_, outcome) = meet(&terms(method), Some(&secret), Credential::Plain(right.clone()), &cache);
                prop_assert!(matches!(outcome, Outcome::In(_)), "{method:?} {outcome:?}");
                let (_, outcome) = meet(&terms(method), Some(&secret), Credential::Plain(wrong.clone()), &cache);
                prop_assert!(matches!(outcome, Outcome::Out(Reason::WrongPassword)), "{method:?} {outcome:?}");
            }
        }
    }

    /// Whatever is sent, a client that does not know the password is not let in, and nothing panics.
    #[test]
    fn garbage_never_gets_in(
        method in prop_oneof![Just(Method::Plain), Just(Method::Md5), Just(Method::ScramSha256)],
        which in 0..5_usize,
        bodies in proptest::collection::vec(garbage(), 1..4),
    ) {
        let (_, secret) = secrets().swap_remove(which);
        let cache = KeyCache::new(1);
        let mut step = begin(&terms(method), "alice", secret.as_ref());
        for body in bodies {
            match step {
                Step::Continue(exchange, _) => step = exchange.step(&body, &cache),
                Step::Done(..) => prop_assert!(false, "let in"),
                Step::Denied(_) => return Ok(()),
            }
        }
        prop_assert!(!matches!(step, Step::Done(..)));
    }

    /// Whatever a server sends, nothing panics.
    #[test]
    fn garbage_never_breaks_a_login(
        messages in proptest::collection::vec((0..14_i32, garbage()), 1..5),
    ) {
        let cache = KeyCache::new(1);
        let mut login = ClientLogin::new("alice", Credential::Plain(password("pencil")), LeastMethod::Any);
        for (code, data) in messages {
            match login.on_authentication(code, &data, &cache) {
                Ok(LoginStep::Send(next, _) | LoginStep::Wait(next)) => login = next,
                Ok(LoginStep::Accepted(_)) | Err(_) => return Ok(()),
            }
        }
    }

    /// Whatever is in a file, nothing panics.
    #[test]
    fn garbage_never_breaks_a_parser(text in garbage(), secret in "(md5|SCRAM-SHA-256\\$)?[0-9a-f:$=,]{0,80}") {
        let _ = UserList::parse(&text);
        let _ = StoredSecret::parse(&text);
        let _ = StoredSecret::parse(secret.as_bytes());
        let _ = UserList::parse(format!("\"a\" \"{secret}\"").as_bytes());
        let _ = sasl::parse_mechanisms(&text);
        let _ = sasl::InitialResponse::parse(&text);
    }
}

/// Bytes that get past the first checks now and then.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let message =
        || "((n|y|p=[a-z-]{0,8}),,)?([crnspievmx]=[a-zA-Z0-9+/=]{0,12},?){0,5}".prop_map(String::into_bytes);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        message(),
        message().prop_map(|data| sasl::initial_response("SCRAM-SHA-256", &data).unwrap()),
        Just(b"SCRAM-SHA-256\0\0".to_vec()),
        "[\"; \na-z]{0,40}".prop_map(String::into_bytes),
        "[ -~]{0,40}\0".prop_map(String::into_bytes),
    ]
}
