//! `backup`: everything the cluster's store holds, at one revision, into one file.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use drover_api::backup::{Decoder, Header, Item, Summary};
use futures::{AsyncRead, AsyncReadExt as _};

use crate::{cli::Context, failure::Failure};

const PATH: &str = "/apis/drover.dev/v1alpha1/backups/cluster";
/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Write a backup of the cluster into a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; one that is there already is replaced when the backup is complete
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

/// Runs `backup`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let cluster = ctx.cluster().await?;
    let mut partial = Partial::create(&args.file).with_context(|| args.file.display().to_string())?;
    let reader = cluster.stream(PATH).await?;
    let (header, summary) = receive(reader, &mut partial).await?;
    let bytes = partial.publish().with_context(|| args.file.display().to_string())?;
    let Header { cluster, revision, taken_at, .. } = header;
    ctx.output.line(format!(
        "cluster {cluster} at revision {revision}, {taken_at}: {} objects, {bytes} bytes, sha256 {}",
        summary.records, summary.digest
    ))?;
    ctx.output.line(format!("written to {}; keep the server's pki directory beside it", args.file.display()))?;
    Ok(0)
}

/// Writes what comes, and believes none of it before its digest has been checked.
async fn receive(mut reader: impl AsyncRead + Unpin, out: &mut Partial) -> anyhow::Result<(Header, Summary)> {
    let mut decoder = Decoder::live();
    let (mut header, mut summary) = (None, None);
    let mut piece = vec![0; PIECE];
    loop {
        let length = reader.read(&mut piece).await.context("the backup broke off")?;
        if length == 0 {
            break;
        }
        out.write(&piece[..length])?;
        decoder.push(&piece[..length]);
        while let Some(item) = decoder.next()? {
            match item {
                Item::Header(found) => header = Some(found),
                Item::Record(_) => {}
                // The server began anew: only what is left of this piece belongs to the file.
                Item::Void => out.restart(decoder.unread())?,
                Item::End(found) => summary = Some(found),
            }
        }
    }
    decoder.finish()?;
    header.zip(summary).ok_or_else(|| Failure::new("the server sent no backup").into())
}

/// A file that appears under its name only when it is complete.
struct Partial {
    path: PathBuf,
    partial: PathBuf,
    file: fs::File,
    published: bool,
}

impl Partial {
    fn create(path: &Path) -> io::Result<Self> {
        let mut partial = path.to_path_buf().into_os_string();
        partial.push(format!(".partial-{}", std::process::id()));
        let partial = PathBuf::from(partial);
        // Secrets are in it, sealed or not: nobody else may read it.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        Ok(Self { path: path.to_path_buf(), partial, file, published: false })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn restart(&mut self, bytes: &[u8]) -> io::Result<()> {
        use io::Seek as _;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(bytes)
    }

    fn publish(mut self) -> io::Result<u64> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.published = true;
        let folder =
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        fs::File::open(folder)?.sync_all()?;
        Ok(self.file.metadata()?.len())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // A failure here leaves a file whose name says what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use drover_api::backup::Encoder;
    use futures::io::Cursor;

    use super::*;

    fn file(revision: u64) -> Vec<u8> {
        let (mut encoder, mut bytes) = Encoder::begin(&Header { revision, ..Header::default() });
        encoder.record(b"/registry/a", &vec![b'x'; 100_000], &mut bytes);
        bytes.extend(encoder.finish());
        bytes
    }

    async fn take(answer: Vec<u8>, path: &Path) -> anyhow::Result<(Header, Summary)> {
        let mut partial = Partial::create(path)?;
        let received = receive(Cursor::new(answer), &mut partial).await?;
        partial.publish()?;
        Ok(received)
    }

    #[tokio::test]
    async fn a_backup_that_began_anew_is_one_whole_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let begun = &file(1)[..70_000];
        // A cut record cannot be followed by a new file; whole frames can.
        let (_, header) = Encoder::begin(&Header::default());
        let answer = [&header, &Encoder::void(), file(2).as_slice()].concat();
        let (header, summary) = take(answer, &path).await.unwrap();
        assert_eq!((header.revision, summary.records), (2, 1));
        assert_eq!(fs::read(&path).unwrap(), file(2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        assert!(take(begun.to_vec(), &path).await.is_err());
        assert_eq!(fs::read(&path).unwrap(), file(2), "a backup that broke off replaces nothing");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and leaves nothing");
    }
}
