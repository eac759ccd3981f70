//! The image that holders run: one program that sleeps for ever, made here byte by byte.
//!
//! No registry, no toolchain and nothing else of this host is needed, however Drover itself was linked. The program is a
//! loop around one system call; holders are ended by SIGKILL, so that it needs no signal handling.

use bollard::{Docker, body_full, query_parameters::CreateImageOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

/// The program's place in the image.
pub(super) const PROGRAM: &str = "/holder";

const REPOSITORY: &str = "drover/holder";

/// Where the program is loaded: the usual base of programs with fixed addresses.
const BASE: u64 = 0x40_0000;

/// Sizes of the headers of a 64-bit ELF file.
const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

/// The unit of a tar archive.
const BLOCK: usize = 512;

/// `again: mov eax, 34 (pause); syscall; jmp again`.
const X86_64: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// `again: mov x0..x3, 0; mov x8, 73 (ppoll); svc 0; b again`: this architecture has no `pause`.
const AARCH64: [u32; 7] = [0xd280_0000, 0xd280_0001, 0xd280_0002, 0xd280_0003, 0xd280_0928, 0xd400_0001, 0x17ff_fffa];

/// Why there is no image for holders.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nobody has written the program for this processor.
    #[error("no holder program for {architecture}")]
    Architecture {
        /// The processor's architecture.
        architecture: &'static str,
    },
    /// The engine did not take the image.
    #[error("cannot import image {reference}")]
    Import {
        /// The image.
        reference: String,
        /// The engine's answer.
        #[source]
        source: bollard::errors::Error,
    },
}

/// Program and name of the image; the name says what is in it.
#[derive(Debug, Clone)]
pub(super) struct HolderImage {
    program: Vec<u8>,
    tag: String,
}

impl HolderImage {
    /// The image for the processor that this agent runs on.
    pub(super) fn new() -> Result<Self, ImageError> {
        let architecture = std::env::consts::ARCH;
        let program = program(architecture).ok_or(ImageError::Architecture { architecture })?;
        let tag = Sha256::digest(&program).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { program, tag })
    }

    pub(super) fn reference(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    /// Imports the image unless the engine has it.
    pub(super) async fn ensure(&self, docker: &Docker) -> Result<(), ImageError> {
        let reference = self.reference();
        if docker.inspect_image(&reference).await.is_ok() {
            return Ok(());
        }
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(self.tag.clone()),
            ..Default::default()
        };
        let archive = archive(PROGRAM.trim_start_matches('/'), &self.program);
        let progress = docker.create_image(Some(options), Some(body_full(Bytes::from(archive))), None);
        let lines: Result<Vec<_>, _> = progress.try_collect().await;
        lines.map(drop).map_err(|source| ImageError::Import { reference, source })
    }
}

fn program(architecture: &str) -> Option<Vec<u8>> {
    match architecture {
        "x86_64" => Some(executable(62, &X86_64)),
        "aarch64" => Some(executable(183, &AARCH64.map(u32::to_le_bytes).concat())),
        _other => None,
    }
}

/// A little-endian 64-bit ELF file (System V ABI, chapters 4 and 5): headers and code in one segment, entered at the code.
fn executable(machine: u16, code: &[u8]) -> Vec<u8> {
    let headers = u64::from(FILE_HEADER + PROGRAM_HEADER);
    let size = headers + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    let long = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    // Type (executable), machine; version; entry, offset of the program headers, of the section headers; flags.
    half(&mut file, &[2, machine]);
    word(&mut file, &[1]);
    long(&mut file, &[BASE + headers, u64::from(FILE_HEADER), 0]);
    word(&mut file, &[0]);
    // Size of this header; size and number of program headers; of section headers; index of their names.
    half(&mut file, &[FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0]);
    // The segment: loaded, readable and executable; offset, addresses, sizes, and an alignment for pages of 64 KiB too.
    word(&mut file, &[1, 5]);
    long(&mut file, &[0, BASE, BASE, size, size, 0x1_0000]);
    file.extend(code);
    file
}

/// A tar archive (ustar) with one executable file of root's.
fn archive(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", contents.len()));
    put(136, "00000000000");
    // The checksum is taken with its own place blank.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(contents);
    header.resize(header.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    header
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn the_program_starts_and_waits_until_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("holder");
        std::fs::write(&path, HolderImage::new().unwrap().program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
        };
        while state() != 'S' {
            assert_ne!(state(), 'Z', "it ended");
            std::thread::yield_now();
        }
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn programs_for_both_processors_are_whole_files() {
        for (architecture, length) in [("x86_64", 129), ("aarch64", 148)] {
            let program = program(architecture).unwrap();
            assert_eq!((program.len(), &program[..4]), (length, b"\x7fELF".as_slice()), "{architecture}");
        }
        assert_eq!(program("riscv64"), None);
    }

    #[test]
    fn tar_reads_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        std::fs::File::create(&path).unwrap().write_all(&archive("holder", b"text")).unwrap();
        let listed = Command::new("tar").args(["-tvf", path.to_str().unwrap(), "--numeric-owner"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.starts_with("-rwxr-xr-x 0/0") && listed.trim_end().ends_with(" holder"), "{listed}");
    }
}
