// Serves the mock device of the yubihsm crate over HTTP: yubihsm-mock PORT. Its authentication key is that of a new
// device: id 1, "password". Objects last as long as the process. The crate's own HTTP server cannot be used: Yubico's
// library does not understand its status page, and asks for the device's information without a session.
use tiny_http::{Method, Request, Response, Server, StatusCode};
use uuid::Uuid;
use yubihsm::Connector;

/// The response to GET DEVICE INFO: firmware 2.0.0, serial number 1234567, 62 log entries of which none is used, and the
/// algorithms HMAC-SHA-1 to HMAC-SHA-512, since the mock lacks most of the others.
const GET_DEVICE_INFO: u8 = 0x06;
const DEVICE_INFO: [u8; 16] = [0x86, 0, 13, 2, 0, 0, 0, 0x12, 0xd6, 0x87, 62, 0, 19, 20, 21, 22];

/// What a device answers to a command of a session that it has ended.
const INVALID_SESSION: [u8; 4] = [0x7f, 0, 1, 3];

fn answer(connector: &Connector, request: &mut Request) -> Option<Vec<u8>> {
    match (request.method(), request.url()) {
        (Method::Get, "/connector/status") => {
            Some(b"status=OK\nserial=*\nversion=3.0.4\npid=1\naddress=127.0.0.1\nport=0\n".to_vec())
        }
        (Method::Post, "/connector/api") => {
            let mut command = Vec::new();
            request.as_reader().read_to_end(&mut command).ok()?;
            if command.first() == Some(&GET_DEVICE_INFO) {
                return Some(DEVICE_INFO.to_vec());
            }
            let response = connector.send_message(Uuid::new_v4(), command.into());
            Some(response.map_or(INVALID_SESSION.to_vec(), |message| message.as_ref().to_vec()))
        }
        _ => None,
    }
}

fn main() {
    let port = std::env::args().nth(1).expect("usage: yubihsm-mock PORT");
    let server = Server::http(format!("127.0.0.1:{port}")).expect("cannot listen");
    let connector = Connector::mockhsm();
    for mut request in server.incoming_requests() {
        let response = match answer(&connector, &mut request) {
            Some(body) => Response::from_data(body).boxed(),
            None => Response::empty(StatusCode(500)).boxed(),
        };
        let _ = request.respond(response);
    }
}
