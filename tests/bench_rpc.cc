// By hand: requests per second of 1, 2, 4 and 8 clients of one RPC server, over a Unix socket and
// over TLS, with the server's processor time for one; and what a client waits that asks for little
// while another keeps 64 requests waiting. The service works for 20 microseconds on a request,
// which is about what a look-up in the metadata takes. Clients are processes of their own.
//
//   bench_rpc [SECONDS]
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/rpc.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

constexpr Duration kWork = std::chrono::microseconds(20);

class Service final : public RpcService {
 public:
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.has_hello()) {
      connection->session = ++sessions_;
      reply.mutable_hello()->set_session(connection->session);
      reply.mutable_hello()->set_lease_ms(60'000);
    } else {
      const auto until = monotonic_now() + kWork;
      while (monotonic_now() < until) {
      }
      reply.mutable_attr()->mutable_inode()->set_ino(7);
    }
    connection->reply(reply);
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override {}

 private:
  uint64_t sessions_ = 0;
};

double cpu_seconds() {
  rusage used{};
  (void)::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// What a client process tells on its pipe.
struct Told {
  uint64_t requests = 0;
  double p50_ms = 0, p99_ms = 0;
};

pb::Request look_up() {
  pb::Request request;
  request.mutable_lookup()->set_parent(1);
  request.mutable_lookup()->set_name("a name of usual length");
  return request;
}

// Keeps `at_once` requests waiting for so long.
Told ask(RpcClient& client, Duration span, int at_once) {
  std::counting_semaphore<1024> room(at_once);
  std::atomic<uint64_t> answered{0};
  std::vector<double> waits;
  const auto until = monotonic_now() + span;
  while (monotonic_now() < until) {
    if (at_once == 1) {
      const auto began = monotonic_now();
      if (!client.call(look_up())) std::_Exit(1);
      waits.push_back(std::chrono::duration<double, std::milli>(monotonic_now() - began).count());
      ++answered;
      continue;
    }
    room.acquire();
    client.call(look_up(), [&](const auto&) {
      ++answered;
      room.release();
    });
  }
  for (int i = 0; at_once > 1 && i < at_once; ++i) room.acquire();
  std::sort(waits.begin(), waits.end());
  Told told{answered, 0, 0};
  if (!waits.empty()) {
    told.p50_ms = waits[waits.size() / 2];
    told.p99_ms = waits[waits.size() * 99 / 100];
  }
  return told;
}

struct Client {
  pid_t pid = 0;
  int told = -1, go = -1;
};

// Before this process has threads.
Client fork_client(const TestCloud& cloud, const std::string& address, int number, Duration span,
                   int at_once) {
  int told[2], go[2];
  if (::pipe(told) != 0 || ::pipe(go) != 0) std::exit(1);
  Client made{::fork(), told[0], go[1]};
  if (made.pid != 0) {
    ::close(told[1]);
    ::close(go[0]);
    return made;
  }
  char start = 0;
  (void)!::read(go[0], &start, 1);
  RpcClient::Options options;
  options.addresses = {address};
  options.kind = pb::CLIENT_MOUNT;
  options.tls = [context = cloud.node("node" + std::to_string(number))]()
      -> result<std::shared_ptr<const TlsContext>> { return context; };
  const auto client = connect_rpc(std::move(options), nullptr);
  if (!client) std::_Exit(1);
  const Told result = ask(*client.value(), span, at_once);
  (void)!::write(told[1], &result, sizeof result);
  std::_Exit(0);
}

// Serves while these clients ask.
std::vector<Told> serve(const TestCloud& cloud, const std::string& address,
                        const std::vector<Client>& clients, double& cpu) {
  Service service;
  const auto server = make_rpc_server(service);
  TlsServing tls;
  tls.context = [shown = cloud.daemon()] { return shown; };
  tls.admit = [](const PeerCertificate& shown, PeerCredentials& peer, Refusal&) -> result<void> {
    peer.node = shown.identity.name;
    return success();
  };
  tls.refusals = std::make_shared<PeerRefusals>();
  server->serve_tls(std::move(tls));
  if (!server->listen(address)) std::exit(1);
  std::thread thread([&] { server->run(); });
  cpu = cpu_seconds();
  std::vector<Told> all;
  for (const auto& client : clients) (void)!::write(client.go, "g", 1);
  for (const auto& client : clients) {
    Told told;
    if (::read(client.told, &told, sizeof told) != sizeof told) std::exit(1);
    all.push_back(told);
    ::close(client.told);
    ::close(client.go);
    (void)::waitpid(client.pid, nullptr, 0);
  }
  cpu = cpu_seconds() - cpu;
  server->stop();
  thread.join();
  return all;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  using namespace datacloud;
  const auto span = seconds(argc > 1 ? std::max(1, std::atoi(argv[1])) : 3);
  const TestCloud cloud;
  const std::string socket = "unix:/tmp/datacloud-bench-rpc-" + std::to_string(::getpid());
  for (const bool tls : {false, true}) {
    const auto address = [&] {
      return tls ? "tls://127.0.0.1:" + std::to_string(free_port()) : socket;
    };
    fmt::print("{}\n{:>10} {:>12} {:>14} {:>10} {:>10}\n", tls ? "TLS" : "Unix socket", "clients",
               "requests/s", "server, us each", "p50, ms", "p99, ms");
    for (const int count : {1, 2, 4, 8}) {
      const auto where = address();
      std::vector<Client> clients;
      for (int i = 0; i < count; ++i) clients.push_back(fork_client(cloud, where, i, span, 1));
      double cpu = 0;
      const auto all = serve(cloud, where, clients, cpu);
      uint64_t requests = 0;
      double p50 = 0, p99 = 0;
      for (const auto& told : all) {
        requests += told.requests;
        p50 = std::max(p50, told.p50_ms);
        p99 = std::max(p99, told.p99_ms);
      }
      fmt::print("{:10} {:12.0f} {:14.1f} {:10.2f} {:10.2f}\n", count,
                 static_cast<double>(requests) / std::chrono::duration<double>(span).count(),
                 1e6 * cpu / static_cast<double>(requests), p50, p99);
    }
    const auto where = address();
    const std::vector<Client> clients{fork_client(cloud, where, 1, span, 1),
                                      fork_client(cloud, where, 2, span, 64)};
    double cpu = 0;
    const auto all = serve(cloud, where, clients, cpu);
    fmt::print("beside 64 at once: {:.2f} ms, p99 {:.2f} ms\n", all[0].p50_ms, all[0].p99_ms);
  }
  return 0;
}
