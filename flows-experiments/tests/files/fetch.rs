//! Getting files from a server on loopback: whole, cut off, wrong, missing, unreachable.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use flows_experiments::data::catalog::{Checksum, Entry, State};
use flows_experiments::data::fetch::{FetchError, fetch};
use sha2::{Digest, Sha256};

/// How the server answers.
#[derive(Clone, Copy)]
enum Manner {
    /// Whole files and ranges.
    Honest,
    /// Ends the first transfer halfway.
    CutOnce,
    /// Takes no notice of ranges.
    NoRanges,
}

/// A server that has `/file`, and the ranges it was asked for.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    fn start(content: Vec<u8>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = ranges.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let first = seen.lock().unwrap().is_empty();
                let range = answer(stream, &content, manner, first);
                seen.lock().unwrap().push(range);
            }
        });
        Self { address, ranges }
    }

    fn entry(&self, path: &str, content: &[u8]) -> Entry {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        Entry {
            set: "test",
            path: "folder/file",
            url: leak(format!("{}{path}", self.address)),
            checksum: Some(Checksum::Sha256(leak(format!(
                "{:x}",
                Sha256::digest(content)
            )))),
        }
    }

    fn ranges(&self) -> Vec<Option<u64>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, content: &[u8], manner: Manner, first: bool) -> Option<u64> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let mut range = None;
    for line in lines {
        let line = line.unwrap().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            range = bytes.trim_end_matches('-').parse::<u64>().ok();
        }
    }
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n")
    };
    let mut send = |head: String, body: &[u8]| {
        // The client may have gone, as it does where it refuses an answer.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    };
    if !request.starts_with("GET /file ") {
        send(head("404 Not Found", 0, ""), &[]);
        return range;
    }
    let total = content.len();
    match range {
        Some(from) if !matches!(manner, Manner::NoRanges) => {
            let from = from as usize;
            if from >= total {
                send(head("416 Range Not Satisfiable", 0, ""), &[]);
            } else {
                let more = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
                send(
                    head("206 Partial Content", total - from, &more),
                    &content[from..],
                );
            }
        }
        _ => {
            let cut = matches!(manner, Manner::CutOnce) && first;
            let body = if cut { &content[..total / 2] } else { content };
            send(head("200 OK", total, ""), body);
        }
    }
    range
}

fn content() -> Vec<u8> {
    (0..100_000u64).map(|i| ((i * i) >> 7) as u8).collect()
}

fn is_one_line(error: &FetchError) -> bool {
    !error.to_string().contains('\n')
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("folder")).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_file_is_fetched_and_verified() {
    let server = Server::start(content(), Manner::Honest);
    let folder = tempfile::tempdir().unwrap();
    let entry = server.entry("/file", &content());
    let mut seen = Vec::new();
    let path = fetch(&entry, folder.path(), &mut |have, of| seen.push((have, of))).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(files(folder.path()), ["file"]);
    assert_eq!(seen.last(), Some(&(100_000, Some(100_000))));
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0));
    assert_eq!(entry.verify(folder.path()).unwrap(), State::Exact(path));
}

#[test]
fn a_cut_transfer_goes_on_where_it_was() {
    let server = Server::start(content(), Manner::CutOnce);
    let folder = tempfile::tempdir().unwrap();
    let entry = server.entry("/file", &content());
    let error = fetch(&entry, folder.path(), &mut |_, _| {}).unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::Cut {
                received: 50_000,
                expected: 100_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(is_one_line(&error));
    assert_eq!(files(folder.path()), ["file.part"]);
    let path = fetch(&entry, folder.path(), &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    assert_eq!(server.ranges(), [None, Some(50_000)]);
}

#[test]
fn a_server_without_ranges_begins_again() {
    let server = Server::start(content(), Manner::NoRanges);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("folder/file.part"), [7; 1000]).unwrap();
    let path = fetch(
        &server.entry("/file", &content()),
        folder.path(),
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
}

#[test]
fn what_is_already_whole_or_too_long_is_sorted_out() {
    let server = Server::start(content(), Manner::Honest);
    for length in [100_000, 120_000] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let mut there = content();
        there.resize(length, 0);
        fs::write(folder.path().join("folder/file.part"), there).unwrap();
        let path = fetch(
            &server.entry("/file", &content()),
            folder.path(),
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(fs::read(path).unwrap(), content());
    }
}

#[test]
fn a_wrong_file_is_refused_and_deleted() {
    let server = Server::start(content(), Manner::Honest);
    let folder = tempfile::tempdir().unwrap();
    let entry = server.entry("/file", b"something else");
    let error = fetch(&entry, folder.path(), &mut |_, _| {}).unwrap_err();
    assert!(
        matches!(error, FetchError::Checksum { kind: "sha256", .. }),
        "{error}"
    );
    assert!(is_one_line(&error));
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_missing_file_and_a_missing_server_are_said() {
    let server = Server::start(content(), Manner::Honest);
    let folder = tempfile::tempdir().unwrap();
    let entry = server.entry("/other", &content());
    let error = fetch(&entry, folder.path(), &mut |_, _| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/other answers with status 404"),
        "{error}"
    );
    assert!(is_one_line(&error));

    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = Server {
        address: format!("http://{free}"),
        ranges: Default::default(),
    };
    let error = fetch(
        &nobody.entry("/file", &content()),
        folder.path(),
        &mut |_, _| {},
    )
    .unwrap_err();
    assert!(matches!(error, FetchError::Network { .. }), "{error}");
    assert!(
        is_one_line(&error) && error.to_string().contains("cannot reach"),
        "{error}"
    );
}
