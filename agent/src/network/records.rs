//! One small file for each pod that has a name space: written before anything is made for the pod, removed after the
//! last of it is gone. So whatever the kernel holds for us has a record, whenever the agent was killed.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    ids::PodUid,
    seams::{HostPort, SandboxRequest},
};

/// A failed step on the records under the run directory.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or folder could not be read, written or removed.
    #[error("cannot use {}", path.display())]
    File {
        /// What was used.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The host ports of the pods on this node, with the pod addresses they lead to.
pub type PodHostPorts = BTreeMap<PodUid, (Ipv4Addr, Vec<HostPort>)>;

/// What is kept for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) address: Ipv4Addr,
    pub(super) host_ports: Vec<HostPort>,
    /// The pod in its user's words: whoever finds something of ours on the engine shall see whose it is.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) hostname: String,
}

impl Record {
    pub(super) fn new(address: Ipv4Addr, request: &SandboxRequest) -> Self {
        let SandboxRequest { pod: _, namespace, name, hostname, host_ports } = request.clone();
        Self { address, host_ports, namespace, name, hostname }
    }
}

/// The folder of records.
#[derive(Debug)]
pub(super) struct Records {
    pods: PathBuf,
    released: PathBuf,
}

impl Records {
    pub(super) fn open(run_dir: &Path) -> Result<Self, RecordError> {
        let records = Self { pods: run_dir.join("pods"), released: run_dir.join("released") };
        for folder in [&records.pods, &records.released] {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        Ok(records)
    }

    /// All records. One that was cut off by a crash names no address, so nothing was made for it: it is dropped.
    pub(super) fn load(&self) -> Result<BTreeMap<PodUid, Record>, RecordError> {
        let mut records = BTreeMap::new();
        for path in files(&self.pods)? {
            let uid = path.file_name().and_then(|name| PodUid::new(name.to_str()?));
            let record = fs::read(&path).ok().and_then(|bytes| decode(&serde_json::from_slice(&bytes).ok()?));
            match uid.zip(record) {
                Some((uid, record)) => drop(records.insert(uid, record)),
                None => remove_file(&path)?,
            }
        }
        Ok(records)
    }

    /// When each address was released.
    pub(super) fn load_released(&self) -> Result<HashMap<Ipv4Addr, Timestamp>, RecordError> {
        let mut released = HashMap::new();
        for path in files(&self.released)? {
            let address = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let since = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
            match address.zip(since) {
                Some((address, since)) => drop(released.insert(address, since)),
                None => remove_file(&path)?,
            }
        }
        Ok(released)
    }

    pub(super) fn write(&self, pod: &PodUid, record: &Record) -> Result<(), RecordError> {
        remove_file(&self.released.join(record.address.to_string()))?;
        let fresh = self.pods.join(format!(".{pod}"));
        fs::write(&fresh, encode(record).to_string()).map_err(failed(&fresh))?;
        let path = self.pods.join(pod.as_str());
        fs::rename(&fresh, &path).map_err(failed(&path))
    }

    pub(super) fn remove(&self, pod: &PodUid, address: Ipv4Addr, now: Timestamp) -> Result<(), RecordError> {
        let released = self.released.join(address.to_string());
        fs::write(&released, now.to_string()).map_err(failed(&released))?;
        remove_file(&self.pods.join(pod.as_str()))
    }
}

pub(super) fn remove_file(path: &Path) -> Result<(), RecordError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    entries.map(|entry| Ok(entry.map_err(failed(folder))?.path())).collect()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RecordError + '_ {
    move |source| RecordError::File { path: path.to_owned(), source }
}

fn encode(record: &Record) -> Value {
    let ports: Vec<Value> = record.host_ports.iter().map(encode_port).collect();
    json!({ "address": record.address, "hostPorts": ports, "namespace": record.namespace, "name": record.name,
            "hostname": record.hostname })
}

fn encode_port(port: &HostPort) -> Value {
    json!({ "hostAddress": port.host_address, "hostPort": port.host_port, "containerPort": port.container_port,
            "protocol": port.protocol })
}

fn decode(value: &Value) -> Option<Record> {
    let address = value.get("address")?.as_str()?.parse().ok()?;
    let host_ports = value.get("hostPorts")?.as_array()?.iter().map(decode_port).collect::<Option<_>>()?;
    // Earlier agents wrote no names.
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Record { address, host_ports, namespace: text("namespace"), name: text("name"), hostname: text("hostname") })
}

fn decode_port(value: &Value) -> Option<HostPort> {
    let number = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some(HostPort {
        host_address: value.get("hostAddress").and_then(|text| text.as_str()?.parse().ok()),
        host_port: number("hostPort")?,
        container_port: number("containerPort")?,
        protocol: value.get("protocol")?.as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_a_crash_cut_off_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let (one, two) = (PodUid::new("u-1").unwrap(), PodUid::new("u-2").unwrap());
        let port = HostPort {
            host_address: Some(Ipv4Addr::LOCALHOST),
            host_port: 80,
            container_port: 8080,
            protocol: "TCP".into(),
        };
        let request = |pod: &PodUid, host_ports| SandboxRequest {
            pod: pod.clone(),
            namespace: "default".into(),
            name: "web".into(),
            hostname: "www".into(),
            host_ports,
        };
        let record = Record::new(Ipv4Addr::new(10, 0, 0, 2), &request(&one, vec![port]));
        records.write(&one, &record).unwrap();
        records.write(&two, &Record::new(Ipv4Addr::new(10, 0, 0, 3), &request(&two, vec![]))).unwrap();
        fs::write(folder.path().join("pods/.u-3"), "{\"addr").unwrap();
        fs::write(folder.path().join("pods/u-4"), "").unwrap();
        let now = Timestamp::from_second(7).unwrap();
        records.remove(&two, Ipv4Addr::new(10, 0, 0, 3), now).unwrap();
        assert_eq!(records.load().unwrap(), BTreeMap::from([(one, record)]));
        assert_eq!(records.load_released().unwrap(), HashMap::from([(Ipv4Addr::new(10, 0, 0, 3), now)]));
        assert_eq!(files(&folder.path().join("pods")).unwrap().len(), 1);
    }
}
