use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::streams::frames::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT, encode};

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };

/// What a client saw: standard output, standard error, the status at the end.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<serde_json::Value>,
}

fn take_apart(mut bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let (payload, rest) = rest.split_at(length);
        match header[0] {
            STDOUT => seen.stdout.extend_from_slice(payload),
            STDERR => seen.stderr.extend_from_slice(payload),
            ERROR => seen.status = Some(serde_json::from_slice(payload).unwrap()),
            other => panic!("channel {other}"),
        }
        bytes = rest;
    }
    seen
}

async fn collect(mut pieces: mpsc::Receiver<Bytes>) -> Seen {
    let mut all = Vec::new();
    while let Some(piece) = pieces.recv().await {
        all.extend_from_slice(&piece);
    }
    take_apart(&all)
}

/// A process that copies its input to its output and ends when its input does.
fn echo() -> Attached {
    let (near, mut far) = tokio::io::duplex(1024);
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut buffer = vec![0; 512];
        while let Ok(n @ 1..) = far.read(&mut buffer).await {
            if sender.send(Ok(OutputChunk::Stdout(Bytes::copy_from_slice(&buffer[..n])))).await.is_err() {
                return;
            }
        }
    });
    Attached { output: tokio_stream::wrappers::ReceiverStream::new(receiver).boxed(), input: Box::pin(near) }
}

/// Terminal sizes in the order they were set.
type Sizes = Arc<Mutex<Vec<(u16, u16)>>>;

fn session(attached: Attached, streams: Streams, code: i64) -> (Session, Sizes) {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&sizes);
    let resize: Resize = Box::new(move |width, height| {
        noted.lock().unwrap().push((width, height));
        Box::pin(async { Ok(()) })
    });
    (Session { attached, streams, resize, exit: Box::pin(async move { Ok(code) }) }, sizes)
}

#[tokio::test]
async fn input_comes_back_unchanged_and_its_end_ends_the_command() {
    let binary: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let mut input: Vec<Bytes> = binary.chunks(9_999).map(|chunk| encode(STDIN, chunk)).collect();
    input.push(encode(CLOSE, &[STDIN]));
    // The request stays open: only the close frame ends the input.
    let input = futures::stream::iter(input).chain(futures::stream::pending());
    let (session, _) = session(echo(), ALL, 0);
    let (sender, receiver) = mpsc::channel(2);
    let ((), seen) = tokio::join!(run(session, input, sender), collect(receiver));
    assert_eq!(seen.stdout, binary);
    assert_eq!(seen.status.unwrap()["status"], "Success");
}

#[tokio::test]
async fn an_exit_code_arrives_as_its_cause_after_all_output() {
    let chunks = [OutputChunk::Stdout(Bytes::from_static(b"out")), OutputChunk::Stderr(Bytes::from_static(b"err"))];
    let output = futures::stream::iter(chunks.map(Ok)).boxed();
    let attached = Attached { output, input: Box::pin(tokio::io::sink()) };
    let (session, _) = session(attached, Streams { stdin: false, ..ALL }, 42);
    let (sender, receiver) = mpsc::channel(2);
    let ((), seen) = tokio::join!(run(session, futures::stream::pending(), sender), collect(receiver));
    assert_eq!((seen.stdout.as_slice(), seen.stderr.as_slice()), (b"out".as_slice(), b"err".as_slice()));
    let status = seen.status.unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0], serde_json::json!({ "reason": "ExitCode", "message": "42" }));
}

#[tokio::test]
async fn terminal_sizes_are_set_in_the_order_they_come() {
    let size = |width: u16| encode(RESIZE, format!("{{\"Width\":{width},\"Height\":1}}").as_bytes());
    let input = [size(80), encode(STDIN, b"x"), size(90), size(100)];
    let (session, sizes) = session(echo(), Streams { tty: true, ..ALL }, 0);
    let (sender, receiver) = mpsc::channel(2);
    let ((), seen) = tokio::join!(run(session, futures::stream::iter(input), sender), collect(receiver));
    assert_eq!(seen.stdout, b"x");
    assert_eq!(*sizes.lock().unwrap(), [(80, 1), (90, 1), (100, 1)]);
}

#[tokio::test]
async fn a_client_that_goes_away_closes_the_commands_input_at_once() {
    let (near, mut far) = tokio::io::duplex(1024);
    let attached = Attached { output: futures::stream::pending().boxed(), input: Box::pin(near) };
    let (session, _) = session(attached, ALL, 0);
    let (sender, receiver) = mpsc::channel(2);
    drop(receiver);
    run(session, futures::stream::pending(), sender).await;
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0, "end of file");
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_output_back() {
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let output = futures::stream::repeat_with(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(OutputChunk::Stdout(Bytes::from_static(b"y\n")))
    });
    let attached = Attached { output: output.boxed(), input: Box::pin(tokio::io::sink()) };
    let (session, _) = session(attached, ALL, 0);
    let (sender, mut receiver) = mpsc::channel(2);
    let task = tokio::spawn(run(session, futures::stream::pending(), sender));
    for _ in 0..10 {
        receiver.recv().await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(made.load(std::sync::atomic::Ordering::Relaxed) < 20);
    drop(receiver);
    task.await.unwrap();
}

#[tokio::test]
async fn an_input_that_breaks_off_has_ended() {
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"a"))]).chain(futures::stream::repeat(Err(())));
    assert_eq!(until_broken(broken).collect::<Vec<_>>().await, ["a"]);
}

#[tokio::test]
async fn input_that_is_no_frame_ends_with_a_sentence() {
    let attached = Attached { output: futures::stream::pending().boxed(), input: Box::pin(tokio::io::sink()) };
    let (session, _) = session(attached, ALL, 0);
    let (sender, receiver) = mpsc::channel(2);
    let input = futures::stream::iter([encode(STDOUT, b"?")]).chain(futures::stream::pending());
    let ((), seen) = tokio::join!(run(session, input, sender), collect(receiver));
    assert_eq!(seen.status.unwrap()["message"], "a client may not send on channel 1");
}
