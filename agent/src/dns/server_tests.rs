use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use serde_json::json;

use super::*;

/// A running server on the loopback with a fake resolver behind it.
struct Running {
    address: SocketAddr,
    input: watch::Sender<Option<DnsInput>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(clients: &str) -> Self {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = upstream.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = upstream.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.queries = question.queries.clone();
                let address = hickory_proto::rr::rdata::A(Ipv4Addr::new(192, 0, 2, 80));
                let name = question.queries[0].name().clone();
                let data = hickory_proto::rr::RData::A(address);
                answer.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
                upstream.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        let config = DnsConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            clients: vec![clients.parse().unwrap()],
            ranges: vec!["10.128.0.0/9".parse().unwrap()],
            resolvers: vec![resolver],
        };
        let server = Server::bind(config).await.unwrap();
        let address = server.address().unwrap();
        let (input, inputs) = watch::channel(None);
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.run(inputs, stop.clone()));
        Self { address, input, stop, task }
    }

    /// A headless Service `db.shop` with that many endpoints, and an alias `outside.shop`.
    fn publish(&self, endpoints: u8) {
        let endpoints: Vec<_> =
            (0..endpoints).map(|last| json!({ "addresses": [format!("10.128.0.{last}")] })).collect();
        let slice = json!({
            "metadata": { "namespace": "shop", "name": "db-1", "labels": { "kubernetes.io/service-name": "db" } },
            "addressType": "IPv4", "ports": [], "endpoints": endpoints });
        let service = |name: &str, spec| json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec });
        let services = [
            service("db", json!({ "clusterIP": "None" })),
            service("outside", json!({ "type": "ExternalName", "externalName": "www.example.com" })),
        ];
        let services = services.into_iter().map(|value| Arc::new(serde_json::from_value(value).unwrap())).collect();
        let slices = vec![Arc::new(serde_json::from_value(slice).unwrap())];
        self.input.send_replace(Some(DnsInput { services, slices, nodes: Vec::new() }));
    }

    async fn udp(&self, question: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(question, self.address).await.unwrap();
        let mut buffer = [0; 4096];
        let received = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.expect("an answer");
        Message::from_vec(&buffer[..received.unwrap()]).unwrap()
    }

    async fn tcp(&self, question: &[u8]) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&upstream::framed(question).unwrap()).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn question(name: &str, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

const DB: &str = "DB.shop.svc.Cluster.local.";

#[tokio::test]
async fn an_answer_too_long_is_cut_and_asked_for_again_over_tcp() {
    let server = Running::start("127.0.0.0/8").await;
    server.publish(60);
    let cut = server.udp(&question(DB, None)).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(server.tcp(&question(DB, None)).await.answers.len(), 60);
    let with_edns = server.udp(&question(DB, Some(4096))).await;
    assert_eq!(with_edns.answers.len(), 60, "EDNS allows up to 1232 bytes");
    assert!(with_edns.edns.is_some() && with_edns.metadata.authoritative);
    assert_eq!(with_edns.metadata.id, 4711);
    server.end().await;
}

#[tokio::test]
async fn before_the_first_sync_cluster_names_fail_and_others_are_forwarded() {
    let server = Running::start("127.0.0.0/8").await;
    assert_eq!(server.udp(&question(DB, None)).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(server.udp(&question("www.example.com.", None)).await.answers.len(), 1);
    server.publish(1);
    let denied = server.udp(&question("nobody.shop.svc.cluster.local.", None)).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(denied.authorities.len(), 1, "with the SOA that limits its life");
    let outside = server.udp(&question("outside.shop.svc.cluster.local.", None)).await;
    let kinds: Vec<_> = outside.answers.iter().map(|record| record.record_type()).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::A], "an alias comes with what it leads to");
    server.end().await;
}

#[tokio::test]
async fn strangers_get_nothing_and_nonsense_gets_a_format_error() {
    let server = Running::start("10.0.0.0/8").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(DB, None), server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "the connection is closed");
    let mut buffer = [0; 512];
    assert!(socket.try_recv(&mut buffer).is_err(), "the datagram before it has had no answer");
    server.end().await;

    let server = Running::start("127.0.0.0/8").await;
    let nonsense = [1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff];
    assert_eq!(server.udp(&nonsense).await.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(server.udp(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.metadata.response_code, ResponseCode::FormErr);
    let update = [1, 2, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(server.udp(&update).await.metadata.response_code, ResponseCode::NotImp);
    server.end().await;
}
