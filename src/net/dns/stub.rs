//! Asks the servers of a `resolv.conf` for the addresses of a name.
//!
//! RFC 1035: a question over UDP, and over TCP when the answer does not fit.

use super::resolv_conf::{ResolvConf, of_hosts_file};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const HOSTS_FILE: &str = "/etc/hosts";

/// The longest answer over UDP; a longer one comes over TCP.
const DATAGRAM: usize = 4096;

/// Answers to other questions that are read before a server is given up: somebody may be guessing.
const STRANGERS: usize = 16;

/// Who asks.
#[derive(Debug)]
pub(super) struct Stub {
    conf: ResolvConf,
}

/// What is known of a name after both questions.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) addresses: Vec<IpAddr>,
    /// The family that the question failed for.
    pub(super) unknown: Option<Family>,
}

/// Addresses that are asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Four,
    Six,
}

impl Family {
    pub(super) fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::Four)
    }
}

/// What a server says of a name.
enum Said {
    Addresses(Vec<IpAddr>),
    NoSuchName,
}

impl Stub {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let mut conf = ResolvConf::parse(&std::fs::read_to_string(path)?);
        if conf.servers.is_empty() {
            // resolv.conf(5): then it is the one of this machine.
            conf.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        Ok(Self { conf })
    }

    /// The addresses of a name: those of `/etc/hosts`, or else of both families by DNS. Cancel safe.
    pub(super) async fn ask(&self, name: &str) -> io::Result<Answered> {
        // Read each time, so that a change of it counts.
        let hosts = tokio::fs::read_to_string(HOSTS_FILE).await.unwrap_or_default();
        let known = of_hosts_file(&hosts, name);
        if !known.is_empty() {
            return Ok(Answered { addresses: known, unknown: None });
        }
        let mut empty = io::Error::new(io::ErrorKind::NotFound, "no such name");
        for full in self.conf.candidates(name) {
            let (four, six) = tokio::join!(self.query(&full, TYPE::A), self.query(&full, TYPE::AAAA));
            let (mut addresses, mut unknown) = (Vec::new(), None);
            for (said, family) in [(four, Family::Four), (six, Family::Six)] {
                match said {
                    Ok(Said::Addresses(found)) => addresses.extend(found),
                    Ok(Said::NoSuchName) => {}
                    Err(error) => (empty, unknown) = (error, Some(family)),
                }
            }
            if !addresses.is_empty() {
                return Ok(Answered { addresses, unknown });
            }
        }
        Err(empty)
    }

    /// Asks one server after the other until one knows.
    async fn query(&self, name: &str, kind: TYPE) -> io::Result<Said> {
        let mut last = io::Error::new(io::ErrorKind::TimedOut, "no DNS server answers");
        for _ in 0..self.conf.attempts {
            for server in &self.conf.servers {
                match timeout(self.conf.timeout, exchange(*server, name, kind)).await {
                    Ok(Ok(said)) => return Ok(said),
                    Ok(Err(error)) => last = error,
                    Err(_) => {}
                }
            }
        }
        Err(last)
    }
}

async fn exchange(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Said> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let id = u16::from_be_bytes(id);
    let question = question(id, name, kind)?;
    let unspecified: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((unspecified, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut block = [0; DATAGRAM];
    for _ in 0..STRANGERS {
        let count = socket.recv(&mut block).await?;
        match read_answer(&block[..count], id, name, kind) {
            Read::Said(said) => return said,
            Read::Truncated => return over_tcp(server, &question, id, name, kind).await,
            Read::Stranger => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the DNS server answers something else"))
}

async fn over_tcp(server: SocketAddr, question: &[u8], id: u16, name: &str, kind: TYPE) -> io::Result<Said> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match read_answer(&answer, id, name, kind) {
        Read::Said(said) => said,
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the DNS server answers something else")),
    }
}

fn question(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let name = Name::new(name).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is no name"))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|error| io::Error::other(error.to_string()))
}

/// What bytes turn out to be.
enum Read {
    Said(io::Result<Said>),
    /// The rest did not fit.
    Truncated,
    /// No answer to this question.
    Stranger,
}

fn read_answer(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Read {
    let Ok(packet) = Packet::parse(bytes) else { return Read::Stranger };
    let is_ours = |question: &Question<'_>| {
        question.qtype == QTYPE::TYPE(kind) && question.qname.to_string().eq_ignore_ascii_case(name)
    };
    let is_answer = packet.has_flags(PacketFlag::RESPONSE) && packet.id() == id;
    if !is_answer || !packet.questions.first().is_some_and(is_ours) {
        return Read::Stranger;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Read::Truncated;
    }
    Read::Said(match packet.rcode() {
        RCODE::NoError => {
            Ok(Said::Addresses(packet.answers.iter().filter_map(|r| address(&r.rdata)).collect()))
        }
        RCODE::NameError => Ok(Said::NoSuchName),
        other => Err(io::Error::other(format!("the DNS server says {other:?}"))),
    })
}

/// A resolver follows aliases by itself: what stands behind them is in the same answer.
fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
        RData::AAAA(a) => Some(Ipv6Addr::from(a.address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = question(7, "db.example", TYPE::A).unwrap();
        assert!(matches!(read_answer(&asked, 7, "db.example", TYPE::A), Read::Stranger));
        let mut answer = Packet::parse(&asked).unwrap().into_reply();
        let bytes = answer.build_bytes_vec().unwrap();
        let is_answer = |id, name, kind| matches!(read_answer(&bytes, id, name, kind), Read::Said(Ok(_)));
        assert!(is_answer(7, "DB.example", TYPE::A));
        assert!(!is_answer(8, "db.example", TYPE::A) && !is_answer(7, "db.example", TYPE::AAAA));
        assert!(!is_answer(7, "other.example", TYPE::A));
        answer.set_flags(PacketFlag::TRUNCATION);
        let bytes = answer.build_bytes_vec().unwrap();
        assert!(matches!(read_answer(&bytes, 7, "db.example", TYPE::A), Read::Truncated));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_answer(&bytes, 0, "a", TYPE::A);
        }
    }
}
