//! Messages as a client writes them. Each function gives the bytes of one message, so that a test can join them,
//! cut them and send them as it likes.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

/// Protocol 3.0.
pub const VERSION_3_0: u32 = 196_608;
/// Protocol 3.2.
pub const VERSION_3_2: u32 = 196_610;

/// A message with a tag.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &length(body.len())[..], body].concat()
}

/// A message without a tag: those of the start.
pub fn untagged(body: &[u8]) -> Vec<u8> {
    [&length(body.len())[..], body].concat()
}

/// StartupMessage.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([string(name), string(value)].concat());
    }
    body.push(0);
    untagged(&body)
}

/// SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    untagged(&80_877_103_u32.to_be_bytes())
}

/// GSSENCRequest.
pub fn gss_request() -> Vec<u8> {
    untagged(&80_877_104_u32.to_be_bytes())
}

/// CancelRequest; `key` is the whole body of BackendKeyData: process and secret.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    untagged(&[&80_877_102_u32.to_be_bytes(), key].concat())
}

/// PasswordMessage.
pub fn password(text: &str) -> Vec<u8> {
    message(b'p', &string(text))
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &string(sql))
}

/// Parse.
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    let count = count(types.len() / 4);
    message(b'P', &[&string(name)[..], &string(sql), &count, &types].concat())
}

/// Bind, with parameters and results in text; `None` is NULL.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = [string(portal), string(statement), vec![0, 0], count(parameters.len()).to_vec()].concat();
    for parameter in parameters {
        match parameter {
            Some(text) => body.extend([&size(text.len())[..], text.as_bytes()].concat()),
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// Describe of a statement (`S`) or a portal (`P`).
pub fn describe(kind: char, name: &str) -> Vec<u8> {
    named(b'D', kind, name)
}

/// Close of a statement (`S`) or a portal (`P`).
pub fn close(kind: char, name: &str) -> Vec<u8> {
    named(b'C', kind, name)
}

/// Execute; 0 rows is all of them.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[&string(portal)[..], &rows.to_be_bytes()].concat())
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// FunctionCall, with arguments and result in text.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = [&oid.to_be_bytes()[..], &[0, 0], &count(arguments.len())].concat();
    for argument in arguments {
        body.extend([&size(argument.len())[..], argument.as_bytes()].concat());
    }
    body.extend([0, 0]);
    message(b'F', &body)
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

/// CopyFail.
pub fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', &string(why))
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// Parse, Bind, Describe, Execute and Sync of the unnamed statement.
pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let steps = [parse("", sql, &[]), bind("", "", parameters), describe('P', ""), execute("", 0), sync()];
    steps.concat()
}

/// A string with its final NUL.
pub fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A 16-bit count.
pub fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).unwrap().to_be_bytes()
}

/// A 32-bit size.
pub fn size(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap().to_be_bytes()
}

fn named(tag: u8, kind: char, name: &str) -> Vec<u8> {
    message(tag, &[&[u8::try_from(kind).unwrap()], &string(name)[..]].concat())
}

/// The length word of a message, which counts itself.
fn length(body: usize) -> [u8; 4] {
    size(body + 4)
}
