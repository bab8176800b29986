use quire::actors::seams::Clock;
use quire::config::{Config, Sources};
use quire::node::Node;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let sources = Sources { variables: Sources::variables_of_process(), ..Sources::default() };
    let node = Node::start(&Config::load(&sources).unwrap(), Clock::system()).await.unwrap();
    println!("{:?} {:?}", node.address, node.ops_address);
    tokio::signal::ctrl_c().await.unwrap();
    node.stop().await.unwrap();
}
