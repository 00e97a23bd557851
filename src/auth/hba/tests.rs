use super::*;
use proptest::prelude::*;

fn no_files(_: &str) -> Result<String, String> {
    Err("no such file".to_owned())
}

fn read(text: &str) -> Parsed {
    parse(text, &IdentMaps::parse("ops root weir\n").0, &no_files)
}

/// The rules of a text without flaws.
fn rules(text: &str) -> Hba {
    let parsed = read(text);
    assert_eq!(parsed.flaws, [], "{text}");
    parsed.hba
}

fn visit<'a>(database: &'a str, user: &'a str, way: Way) -> Visit<'a> {
    Visit { database, user, replication: false, way }
}

fn local() -> Way {
    Way::Plain([127, 0, 0, 1].into())
}

/// The line that decides.
fn line(hba: &Hba, visit: &Visit<'_>) -> usize {
    hba.find(visit).map_or(0, Rule::line)
}

#[test]
fn the_first_rule_that_fits_decides() {
    let hba = rules(
        "# who may come in\n\
         host weir alice,bob 127.0.0.1/32 md5\n\
         host weir , stock carol 127.0.0.0 255.0.0.0 reject\n\
         host \"all\" dora 127.0.0.1/32 trust # a database of that name\n\
         host sameuser all all trust\n\
         local all \"all\" peer map=ops\n\
         local all all scram-sha-256\n\
         host all all ::1/128 password\n",
    );
    let decides = |database, user, way| line(&hba, &visit(database, user, way));
    assert_eq!(decides("weir", "bob", local()), 2);
    assert_eq!(decides("weir", "Bob", local()), 0);
    assert_eq!(decides("stock", "carol", Way::Plain([127, 9, 9, 9].into())), 3);
    assert_eq!(decides("all", "dora", local()), 4);
    assert_eq!(decides("weir", "dora", local()), 0);
    assert_eq!(decides("dora", "dora", Way::Plain("fd00::1".parse().unwrap())), 5);
    assert_eq!(decides("weir", "all", Way::Unix), 6);
    assert_eq!(decides("weir", "weir", Way::Unix), 7);
    assert_eq!(decides("weir", "x", Way::Plain("::1".parse().unwrap())), 8);
    assert_eq!(hba.rules()[2].to_string(), "host \"all\" dora 127.0.0.1/32 trust");
    let peer = &hba.rules()[4];
    assert!(peer.lets_in("root", "weir") && !peer.lets_in("root", "root") && !peer.lets_in("weir", "weir"));
    assert!(hba.rules()[5].lets_in("weir", "weir") && !hba.rules()[5].lets_in("root", "weir"));
}

#[test]
fn encryption_and_replication_are_told_apart() {
    let hba = rules(
        "hostssl all all all cert\nhostnossl all all all md5\nhost replication all all trust\n\
         local all,replication all trust",
    );
    let tls = Way::Tls([127, 0, 0, 1].into());
    assert_eq!(line(&hba, &visit("weir", "weir", tls)), 1);
    assert_eq!(line(&hba, &visit("weir", "weir", local())), 2);
    let replication = |way| Visit { replication: true, ..visit("replication", "weir", way) };
    assert_eq!(line(&hba, &replication(tls)), 3, "all is no replication");
    assert_eq!(line(&hba, &replication(local())), 3);
    assert_eq!(line(&hba, &replication(Way::Unix)), 4);
    assert_eq!(line(&hba, &visit("replication", "weir", local())), 2, "a database of that name is none");
}

#[test]
fn names_come_from_files() {
    let files = |name: &str| match name {
        "names" => Ok("alice, \"bob c\" # both\n\n@more".to_owned()),
        "more" => Ok("dora\nall".to_owned()),
        "loop" => Ok("@loop".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    let text = "host @names x,@names,y all trust\nhost all \"@names\" all md5\nhost all @loop all trust\nhost all @none all trust";
    let parsed = parse(text, &IdentMaps::default(), &files);
    assert_eq!(parsed.flaws.iter().map(|flaw| flaw.line).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(line(&parsed.hba, &visit("bob c", "y", local())), 1);
    assert_eq!(line(&parsed.hba, &visit("whatever", "dora", local())), 1, "all in a file means all");
    assert_eq!(parsed.hba.rules()[0].users.len(), 6);
    let only = parse("host all \"@names\" all md5", &IdentMaps::default(), &files).hba;
    assert_eq!(
        (line(&only, &visit("x", "@names", local())), line(&only, &visit("x", "alice", local()))),
        (1, 0)
    );
}

#[test]
fn lines_that_cannot_be_used_are_told() {
    for (text, what) in [
        ("host all all 127.0.0.1/32 gss", "\"gss\" is no method"),
        ("host all all 127.0.0.1/32 pam", "\"pam\" is no method"),
        ("host all all 127.0.0.1/32 any", "\"any\" is no method"),
        ("host all all 127.0.0.1/32 MD5", "\"MD5\" is no method"),
        ("host all all 127.0.0.1/32 \"md5\"", "\"md5\" is no method"),
        ("host all all localhost md5", "names of hosts are not supported"),
        ("host all all samehost md5", "samehost is not supported"),
        ("host all +staff 127.0.0.1/32 md5", "groups are not supported"),
        ("host all /^a 127.0.0.1/32 md5", "regular expressions are not supported"),
        ("host samerole all 127.0.0.1/32 md5", "samerole is not supported"),
        ("hostgssenc all all 127.0.0.1/32 md5", "no type of connection"),
        ("include other.conf", "no type of connection"),
        ("host all all 127.0.0.1/33 md5", "\"33\" is no mask"),
        ("host all all 127.0.0.1/32", "a method is missing"),
        ("host all all 127.0.0.1 md5", "127.0.0.1 has no mask"),
        ("host all all \"127.0.0.1/32\" md5", "an address is missing"),
        ("host all all 127.0.0.1/32 md5 clientcert=1", "clientcert=1 is not supported"),
        ("host all all 127.0.0.1/32 peer map=none", "there is no map \"none\""),
        ("local all all peer map=ops more", "nothing else"),
        ("local all all 127.0.0.1/32 md5", "\"127.0.0.1/32\" is no method"),
        ("host all \"weir 127.0.0.1/32 md5", "a double quote is not closed"),
        ("host all a, 127.0.0.1/32 md5", "\"md5\" is no IP address"),
        ("host all", "a user is missing"),
        ("host , x all md5", "a database is missing"),
        ("local", "a database is missing"),
    ] {
        let parsed = read(&format!("\n{text}\nlocal all all trust"));
        assert_eq!((parsed.flaws.len(), parsed.hba.rules().len()), (1, 1), "{text}");
        let flaw = &parsed.flaws[0];
        assert!(flaw.line == 2 && flaw.what.contains(what) && !flaw.is_grave, "{text}: {flaw}");
    }
}

/// Left out, they would let somebody in.
#[test]
fn a_line_that_keeps_somebody_out_is_grave() {
    for text in [
        "host all +staff all reject",
        "host all all bad.example.com reject # x",
        "host a b all ldap ldapurl=x",
    ] {
        assert!(read(text).flaws[0].is_grave, "{text}");
    }
    assert!(!read("host all +staff all md5 # reject").flaws[0].is_grave);
}

fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z \",#@+/é]{0,8}").unwrap()
}

proptest! {
    #[test]
    fn a_quoted_name_is_that_name_and_no_other(database in name(), user in name(), other in name()) {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let hba = rules(&format!("host {} {} all md5", quote(&database), quote(&user)));
        prop_assert_eq!(line(&hba, &visit(&database, &user, local())), 1);
        prop_assert_eq!(line(&hba, &visit(&database, &other, local())) == 1, other == user);
    }

    #[test]
    fn any_text_is_rules_and_flaws(text in "(?s)(host|local|all|,|\"|#|127.0.0.1/8|md5|map=ops| |\n|.){0,40}") {
        let parsed = read(&text);
        let said = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count();
        prop_assert_eq!(parsed.hba.rules().len() + parsed.flaws.len(), said);
    }
}
