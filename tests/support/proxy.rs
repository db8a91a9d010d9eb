//! A man in the middle between a client and a Kafka broker that keeps an answer for himself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Kafka's number of the request that puts a group's offsets, which is the mark, into a transaction.
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
/// Kafka's number of the request that commits or aborts a transaction.
pub const END_TXN: i16 = 26;

#[derive(Default)]
struct Cut {
    key: AtomicI32,
    /// How many more such requests come before the one whose answer is lost, that one included; 0: none is.
    left: AtomicUsize,
    /// The connection stays as it is, and nothing more comes over it.
    silent: AtomicBool,
    done: AtomicBool,
}

/// Clients come to `address`; where the broker is must be said by `forward_to`.
pub struct Proxy {
    listener: TcpListener,
    pub address: String,
    cut: Arc<Cut>,
}

impl Proxy {
    pub fn new() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        Proxy { listener, address, cut: Arc::default() }
    }

    /// Passes everything on from now until the test's process ends.
    pub fn forward_to(&self, broker: &str) {
        let (listener, cut, broker) =
            (self.listener.try_clone().expect("a listener"), self.cut.clone(), broker.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(&broker) {
                    pass_on(client, server, cut.clone());
                }
            }
        });
    }

    /// Loses the answer to the `nth` request of this kind, counted from now, and the connection with it.
    pub fn lose_answer(&self, key: i16, nth: usize) {
        self.cut.key.store(i32::from(key), Ordering::SeqCst);
        self.cut.left.store(nth, Ordering::SeqCst);
    }

    /// Loses it likewise, and the client is not told: the connection stays open, and silent.
    pub fn withhold_answer(&self, key: i16, nth: usize) {
        self.cut.silent.store(true, Ordering::SeqCst);
        self.lose_answer(key, nth);
    }

    /// An answer was lost.
    pub fn has_lost(&self) -> bool {
        self.cut.done.load(Ordering::SeqCst)
    }
}

fn pass_on(client: TcpStream, server: TcpStream, cut: Arc<Cut>) {
    let loses = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
    let (requests_cut, requests_loses) = (cut.clone(), loses.clone());
    std::thread::spawn(move || {
        let _ = requests(&mut from, &mut to, &requests_cut, &requests_loses);
        let _ = to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let (mut from, mut to) = (server, client);
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if loses.load(Ordering::SeqCst) {
                cut.done.store(true, Ordering::SeqCst);
                if cut.silent.load(Ordering::SeqCst) {
                    continue;
                }
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Requests are a length of 4 bytes and then their kind in 2.
fn requests(from: &mut TcpStream, to: &mut TcpStream, cut: &Cut, loses: &AtomicBool) -> std::io::Result<()> {
    loop {
        let mut head = [0; 6];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as u64;
        let is_counted = i32::from(i16::from_be_bytes([head[4], head[5]])) == cut.key.load(Ordering::SeqCst);
        let down = |left: usize| left.checked_sub(1);
        let is_it = is_counted && cut.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down) == Ok(1);
        // Nothing else is on its way on a connection to the coordinator of transactions: the next answer is to this.
        let mut request = head.to_vec();
        from.take(length - 2).read_to_end(&mut request)?;
        if is_it {
            loses.store(true, Ordering::SeqCst);
        }
        to.write_all(&request)?;
    }
}
