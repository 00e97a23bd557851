//! Moving bytes: a stream to a peer, buffers that are borrowed only while bytes are in flight, and the pipe that is one
//! direction of a relay.

mod buffer;
mod dialogue;
mod dns;
mod listener;
mod options;
mod pipe;
mod stream;

pub use buffer::{BLOCK, Buffer, reduce_stock};
pub use dialogue::{Broken, Dialogue};
pub use dns::{Found, Keep, NameView, Resolver, Standing};
pub use listener::{
    Acceptor, ListenError, SocketFile, TcpTerms, UnixTerms, accept_error_is_local, bind_tcp, bind_unix,
};
pub use options::SocketOptions;
pub use pipe::Pipe;
pub use stream::{Address, Ends, Loose, Stream, connect};
