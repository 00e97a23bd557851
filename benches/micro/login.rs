//! A login with SCRAM, pgweir on both sides of it.

use super::Case;
use pgweir::auth::{
    ChannelBinding, ClientLogin, Credential, Disguise, Exchange, Iterations, KeyCache, LeastMethod,
    LoginStep, Method, Mock, Password, ScramKeys, ScramVerifier, Step, StoredSecret, Terms,
};
use std::hint::black_box;

pub(crate) const CASES: &[Case] = &[
    Case { name: "scram/derive-keys", few: 3, prepare: derive },
    Case { name: "scram/login-with-verifier", few: 100, prepare: || log_in(&verifier()) },
    Case {
        name: "scram/login-with-password-seen-before",
        few: 100,
        prepare: || log_in(&StoredSecret::Plain(password())),
    },
];

const SALT: &[u8] = b"a salt of server";

fn password() -> Password {
    Password::new("correct horse battery staple").unwrap()
}

fn iterations() -> Iterations {
    Iterations::new(4096).unwrap()
}

fn verifier() -> StoredSecret {
    StoredSecret::Scram(ScramVerifier::derive(&password(), SALT, iterations()))
}

fn derive() -> Box<dyn FnMut() -> usize> {
    let password = password();
    Box::new(move || {
        black_box(ScramKeys::derive(black_box(&password), SALT, iterations()));
        1
    })
}

/// Both sides; their caches have the keys after the first time.
fn log_in(secret: &StoredSecret) -> Box<dyn FnMut() -> usize> {
    let terms = Terms {
        method: Method::ScramSha256,
        iterations: iterations(),
        mock: Mock::new(b"seed", iterations(), Disguise::Scram),
    };
    let (secret, cache) = (secret.clone(), KeyCache::new(8));
    let work = move || meet(&terms, &secret, &cache);
    work();
    Box::new(work)
}

fn meet(terms: &Terms, secret: &StoredSecret, cache: &KeyCache) -> usize {
    let mut login = ClientLogin::new("alice", Credential::Plain(password()), LeastMethod::Any);
    let mut step = Exchange::begin(terms, "alice", Some(secret), ChannelBinding::Unavailable, cache);
    let mut steps = 0;
    while let Step::Continue(exchange, challenge) = step {
        let request = challenge.body();
        let (code, data) = request.split_first_chunk().unwrap();
        let Ok(LoginStep::Send(next, body)) = login.on_authentication(i32::from_be_bytes(*code), data, cache)
        else {
            break;
        };
        login = next;
        step = exchange.step(&body, cache);
        steps += 1;
        if let Step::Done(..) = step {
            return steps;
        }
    }
    unreachable!("the login fails")
}
