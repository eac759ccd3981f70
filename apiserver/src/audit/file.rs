//! The sink on disk: `audit.log`, and the files it was before.

use std::{
    io::{self, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use async_trait::async_trait;
use drover_api::audit::Chain;
use serde_json::{Value, json};
use tokio::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

use super::Sink;

/// Longest tail that is read to find the end of the chain: several of the longest lines.
const TAIL_BYTES: u64 = 1 << 20;

/// How much disk the log may take: `files_max + 1` files of about `bytes_max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The directory of the files, mode 0700.
    pub dir: PathBuf,
    /// A file that would grow beyond it is put aside.
    pub bytes_max: u64,
    /// Files put aside that are kept; older ones are removed.
    pub files_max: usize,
}

impl Limits {
    /// CIS' sizes: 100 MiB a file, ten old files.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, bytes_max: 100 << 20, files_max: 10 }
    }

    /// The file that is written now.
    fn path(&self) -> PathBuf {
        self.dir.join("audit.log")
    }
}

/// The log in a directory.
#[derive(Debug)]
pub struct FileSink {
    limits: Limits,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Length of the whole lines; what lies behind is half a line of a failed write.
    length: u64,
    /// Number of the last line.
    sequence: u64,
}

impl FileSink {
    /// Names the directory; nothing is touched before the first line.
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: None }
    }

    /// Puts the file aside under the number of its last line and removes the oldest ones.
    async fn rotate(&self, sequence: u64) -> io::Result<()> {
        fs::rename(self.limits.path(), self.limits.dir.join(format!("audit-{sequence:016}.log"))).await?;
        let old = self.put_aside().await?;
        let surplus = old.len().saturating_sub(self.limits.files_max);
        for path in &old[..surplus] {
            fs::remove_file(path).await?;
        }
        Ok(())
    }

    /// Files put aside, oldest first.
    async fn put_aside(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut entries = fs::read_dir(&self.limits.dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("audit-") && name.ends_with(".log")) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    async fn open_file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(self.limits.path()).await
    }
}

#[async_trait]
impl Sink for FileSink {
    fn describe(&self) -> Value {
        let Limits { bytes_max, files_max, .. } = &self.limits;
        json!({"path": self.limits.path(), "fileBytesMax": bytes_max, "filesMax": files_max})
    }

    async fn open(&mut self) -> io::Result<Chain> {
        self.open = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.limits.dir).await?;
        let mode = fs::metadata(&self.limits.dir).await?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            let why = format!("{} has mode {mode:04o}, set it to 0700", self.limits.dir.display());
            return Err(io::Error::other(why));
        }
        let mut file = self.open_file().await?;
        let mut length = file.metadata().await?.len();
        let mut chain = if length > 0 { resume(&mut file).await? } else { Chain::default() };
        if length > 0 && !ends_with_newline(&mut file).await? {
            // A crash cut the last line short. It stays, as a line of its own.
            file.write_all(b"\n").await?;
            file.flush().await?;
            length += 1;
        }
        if length == 0
            && let Some(last) = self.put_aside().await?.pop()
        {
            chain = resume(&mut File::open(last).await?).await?;
        }
        self.open = Some(Open { file, length, sequence: chain.sequence });
        Ok(chain)
    }

    async fn append(&mut self, lines: &[u8], sequence: u64) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(|| io::Error::other("the audit log is not open"))?;
        if open.length > 0 && open.length + lines.len() as u64 > self.limits.bytes_max {
            self.rotate(open.sequence).await?;
            open = Open { file: self.open_file().await?, length: 0, sequence: open.sequence };
        }
        let written = async {
            open.file.write_all(lines).await?;
            open.file.flush().await
        };
        if let Err(error) = written.await {
            // Half a line would stay in the way of the next one.
            open.file.set_len(open.length).await?;
            return Err(error);
        }
        let length = open.length + lines.len() as u64;
        self.open = Some(Open { length, sequence, ..open });
        Ok(())
    }
}

/// Finds the end of the chain in the last lines of a file.
async fn resume(file: &mut File) -> io::Result<Chain> {
    let length = file.metadata().await?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start)).await?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).await?;
    let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let mut lines = tail.split(|byte| *byte == b'\n');
    if start > 0 {
        lines.next(); // Half a line.
    }
    Ok(Chain::resume(lines))
}

async fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::End(-1)).await?;
    Ok(file.read_u8().await? == b'\n')
}

/// The files of a directory, oldest lines first: what a verifier reads.
#[cfg(test)]
pub(super) async fn files(dir: PathBuf) -> Vec<PathBuf> {
    let sink = FileSink::new(Limits::new(dir));
    let mut files = sink.put_aside().await.unwrap();
    files.push(sink.limits.path());
    files
}
