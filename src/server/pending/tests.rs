//! Scripts of messages and answers, and whether the queue is settled behind them.

use super::*;

/// Plays messages (upper case, as the protocol's tags; `c` ends a COPY) and answers (after a colon), and tells
/// whether the queue is settled at the end.
fn play(script: &str) -> Result<bool, Surprise> {
    played(script).map(|pending| pending.is_settled())
}

fn after(script: &str) -> Pending {
    played(script).unwrap()
}

fn played(script: &str) -> Result<Pending, Surprise> {
    let mut pending = Pending::default();
    let mut statements = Statements::default();
    for (turn, tags) in script.split_whitespace().flat_map(|word| word.split(':').enumerate()) {
        for tag in tags.bytes() {
            if turn == 0 {
                pending.sent(Origin::Client, request(tag), &mut statements);
            } else {
                pending.answered(tag, b"\0", &mut statements)?;
            }
        }
    }
    Ok(pending)
}

fn request(tag: u8) -> Request {
    match tag {
        b'P' => Request::ParseUnnamed(None),
        b'B' => Request::Bind,
        b'D' => Request::Describe,
        b'E' => Request::Execute,
        b'C' => Request::Close,
        b'H' => Request::Flush,
        b'S' => Request::Sync,
        b'Q' => Request::Query,
        b'F' => Request::FunctionCall,
        b'd' => Request::CopyData,
        b'c' => Request::CopyEnd,
        other => panic!("{other}"),
    }
}

fn settles(script: &str) {
    assert_eq!(play(script), Ok(true), "{script}");
}

fn hangs_on(script: &str) {
    assert_eq!(play(script), Ok(false), "{script}");
}

#[test]
fn every_request_is_settled_by_its_answers() {
    settles("Q:TDDCZ Q:IZ Q:EZ F:VZ F:EZ S:Z SSS:ZZZ");
    settles("PBDES:12TDCZ PDS:1tTZ PDS:1tnZ BES:2IZ BES:2sZ CS:3Z");
    hangs_on("QQ:TDCZ");
    hangs_on("SS:Z");
}

#[test]
fn a_flushed_batch_is_not_settled_before_its_sync() {
    hangs_on("PDH:1tT");
    settles("PDH:1tT BES:2DCZ");
}

#[test]
fn a_query_inside_a_batch_closes_it() {
    settles("PBEQ:12DCTDCZ");
}

#[test]
fn an_error_skips_to_the_next_sync_even_if_that_comes_later() {
    settles("PBES:EZ");
    settles("PBESPBES:1EZ12DCZ");
    hangs_on("PBE:E");
    settles("PBE:E BE S:Z");
    // A Query that is skipped owes nothing.
    settles("BEQS:EZ");
    settles("BE:E Q S:Z");
}

#[test]
fn an_error_of_a_sync_or_a_query_is_followed_by_its_ready() {
    settles("PBES:12CEZ");
    hangs_on("QQ:EZ");
}

#[test]
fn a_copy_ignores_syncs_until_its_end() {
    settles("PBES:12G ddS c:C S:Z");
    hangs_on("PBES:12G dd c:C");
    settles("PBESdcS:12GCZ");
    settles("PBES:12G dSSSc:E S:Z");
    settles("Q:G ddc:CZ");
    settles("QdSc:GCZ");
    settles("Q:G c:C :TDC :G c:CZ");
    settles("Qc:G:CTDC:HdcCZ");
    hangs_on("Q:G dd");
}

#[test]
fn a_sync_in_a_copy_that_fails_leaves_nothing_certain() {
    assert!(after("PBES:12G dS dc:C S:Z").is_certain());
    assert!(after("PBE:12G ddc:E S:Z").is_certain());
    assert!(after("PBES:EZ").is_certain());
    assert!(!after("PBES:12G ddc:E S:Z").is_certain());
    assert!(!after("PBE:12G dS:E S:Z").is_certain());
    assert!(!after("PBEdS:12GE").is_certain());
    assert!(!after("QdS:GEZ").is_certain());
}

#[test]
fn an_execute_may_be_a_copy_until_it_is_answered() {
    assert!(after("PBE:12").may_take_copy_data());
    assert!(after("PBE:12G d").may_take_copy_data());
    assert!(!after("PBE:12G dc:C").may_take_copy_data());
    assert!(!after("PBEPB:12C1").may_take_copy_data());
    assert!(!after("PB").may_take_copy_data());
}

#[test]
fn a_discard_decides_on_the_names_that_are_known() {
    let (mut pending, mut statements) = (Pending::default(), Statements::default());
    pending.sent(Origin::Client, Request::Discard, &mut statements);
    assert!(pending.leaves_open(b"a", true));
    assert!(!pending.leaves_open(b"a", false));
    pending.answered(b'C', b"DISCARD ALL\0", &mut statements).unwrap();
    pending.answered(b'Z', b"I", &mut statements).unwrap();
    assert!(!pending.leaves_open(b"a", true));
}

#[test]
fn late_copy_data_owes_nothing() {
    settles("Qdc:EZ");
    settles("Q:G d:EZ ddc");
    settles("Q:G d:EZ dc Q:TDCZ");
    settles("cQ:CZ");
    settles("QcQ:CZCZ");
}

#[test]
fn what_nothing_asked_for_is_a_surprise() {
    assert_eq!(play("Q:CZZ"), Err(Surprise(b'Z')));
    assert_eq!(play("S:1"), Err(Surprise(b'1')));
    assert_eq!(play("PS:2"), Err(Surprise(b'2')));
    assert_eq!(play("Q:K"), Err(Surprise(b'K')));
}

#[test]
fn a_refusal_of_our_own_takes_the_place_of_the_servers() {
    let report = Box::new(Report::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, "too many"));
    let cases = [
        (&b"C26000\0\0"[..], Delivery::Report(report.clone())),
        // A cancel may hit it as it may hit anything.
        (b"C57014\0\0", Delivery::Client),
    ];
    for (body, expected) in cases {
        let (mut pending, mut statements) = (Pending::default(), Statements::default());
        for request in [Request::Bind, Request::Refused(report.clone()), Request::Bind, Request::Sync] {
            pending.sent(Origin::Client, request, &mut statements);
        }
        assert_eq!(pending.answered(b'2', b"", &mut statements), Ok(Delivery::Client));
        assert_eq!(pending.answered(b'E', body, &mut statements), Ok(expected));
        assert_eq!(pending.answered(b'Z', b"I", &mut statements), Ok(Delivery::Client));
        assert!(pending.is_settled());
    }
}
