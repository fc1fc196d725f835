// The wide-area network between a client and N test clusters, on one machine.
//
// One TUN device in the caller's network namespace, and one in each of N new namespaces, which hold
// a cluster each; packets pass between them through this process, with a delay, a rate and a loss
// per site, any of which changes at run time through a control socket. Devices and namespaces
// belong to this process and whoever runs in them: nothing is left when these have ended, however
// they did.
//
//   site_relay SITES CONTROL_SOCKET [MTU]
//
// Network 198.18.K.0/24 (set aside for such tests by RFC 2544; K is the first free): site I is
// 198.18.K.I, the client 198.18.K.254. When all is set up, one line of JSON on stdout says where.
// The kernel hands over TCP segments uncut (up to 64 KiB) unless packets are to be lost; sizes are
// always computed as if cut at the MTU.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr int kSitesMax = 32;
constexpr size_t kPeersMax = 16;  // of the control socket
constexpr int kClientHost = 254;
constexpr int64_t kQueueNsMax = 200'000'000;  // a router's buffer: more waiting than this is lost
constexpr size_t kQueueBytesMax = 256u << 20;

// virtio_net_hdr of linux/virtio_net.h, which is not C++; before each packet, in the host's order.
struct OffloadHeader {
  uint8_t flags, gso_type;
  uint16_t header_bytes, gso_size, checksum_start, checksum_offset;
};
constexpr size_t kHeader = sizeof(OffloadHeader);
static_assert(kHeader == 10);

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "site_relay: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}
int checked(int result, const std::string& what) {
  if (result < 0) fail(what);
  return result;
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

struct Counters {
  uint64_t packets = 0, bytes = 0, tcp_bytes = 0, dropped = 0;
};

// What of a packet matters here; `ok` only for whole IPv4 packets.
struct Shape {
  bool ok = false;
  uint32_t host = 0;                            // last byte of the destination
  uint64_t segments = 1, payload = 0, tcp = 0;  // bytes after the IP and after the TCP header
  uint64_t wire = 0;                            // bytes with all headers, as cut at the MTU
};

Shape shape_of(const uint8_t* frame, size_t size) {
  Shape shape;
  if (size < kHeader + 20) return shape;
  OffloadHeader header;
  std::memcpy(&header, frame, kHeader);
  const uint8_t* ip = frame + kHeader;
  const size_t length = size - kHeader, ip_header = (ip[0] & 15) * 4u;
  if (ip[0] >> 4 != 4 || ip_header < 20 || length < ip_header) return shape;
  shape.ok = true;
  shape.host = ip[19];
  shape.payload = length - ip_header;
  const size_t tcp_header = ip[9] == IPPROTO_TCP && shape.payload >= 20
                                ? std::min<size_t>((ip[ip_header + 12] >> 4) * 4u, shape.payload)
                                : 0;
  if (tcp_header > 0) {
    shape.tcp = shape.payload - tcp_header;
    if (header.gso_type != 0 && header.gso_size > 0) {
      shape.segments = std::max<uint64_t>(1, (shape.tcp + header.gso_size - 1) / header.gso_size);
      shape.payload += (shape.segments - 1) * tcp_header;
    }
  }
  shape.wire = shape.payload + shape.segments * ip_header;
  return shape;
}

struct Link {
  int64_t delay_ns = 0;  // one way
  uint64_t rate_bits = 0, loss_ppm = 0;
  bool cut = false;
};

// One direction of a site's link: a first-in first-out queue whose head leaves when it is due.
class Direction {
 public:
  using Deliver = std::function<void(const uint8_t*, size_t, const Shape&)>;
  Direction(const Link& link, Deliver deliver) : link_(link), deliver_(std::move(deliver)) {}

  void send(const uint8_t* frame, size_t size, const Shape& shape, int64_t now,
            std::mt19937_64& random) {
    const int64_t start = std::max(now, free_at_);
    if (link_.cut || random() % 1'000'000 < link_.loss_ppm || start - now > kQueueNsMax ||
        queued_bytes_ + size > kQueueBytesMax) {
      counters_.dropped += shape.segments;
      return;
    }
    free_at_ = start;
    if (link_.rate_bits > 0)
      free_at_ += static_cast<int64_t>(static_cast<double>(shape.wire) * 8e9 /
                                       static_cast<double>(link_.rate_bits));
    const int64_t due = std::max(free_at_ + link_.delay_ns, last_due_);
    last_due_ = due;
    if (queue_.empty() && due <= now) return pass(frame, size, shape);
    queue_.push_back({due, shape, {frame, frame + size}});
    queued_bytes_ += size;
  }
  void deliver_due(int64_t now) {
    while (!queue_.empty() && queue_.front().due <= now) {
      const Waiting head = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= head.frame.size();
      if (link_.cut)
        counters_.dropped += head.shape.segments;
      else
        pass(head.frame.data(), head.frame.size(), head.shape);
    }
  }
  int64_t next_due() const { return queue_.empty() ? INT64_MAX : queue_.front().due; }
  const Counters& counters() const { return counters_; }

 private:
  struct Waiting {
    int64_t due;
    Shape shape;
    std::vector<uint8_t> frame;
  };
  void pass(const uint8_t* frame, size_t size, const Shape& shape) {
    counters_.packets += shape.segments;
    counters_.bytes += shape.payload;
    counters_.tcp_bytes += shape.tcp;
    deliver_(frame, size, shape);
  }
  const Link& link_;
  Deliver deliver_;
  std::deque<Waiting> queue_;
  size_t queued_bytes_ = 0;
  int64_t free_at_ = 0, last_due_ = 0;
  Counters counters_;
};

void set_flag(int socket, ifreq& request, const std::string& name) {
  checked(ioctl(socket, SIOCGIFFLAGS, &request), name + ": flags");
  request.ifr_flags |= IFF_UP;
  checked(ioctl(socket, SIOCSIFFLAGS, &request), name + ": up");
}

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  return request;
}

void bring_up(const std::string& name, const std::string& address, int mtu) {
  const int socket = checked(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  auto set = [&](unsigned long what, const std::string& text) {
    ifreq request = request_for(name);
    auto* place = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    place->sin_family = AF_INET;
    inet_pton(AF_INET, text.c_str(), &place->sin_addr);
    checked(ioctl(socket, what, &request), name + ": address " + text);
  };
  set(SIOCSIFADDR, address);
  if (name != "lo") {
    set(SIOCSIFNETMASK, "255.255.255.0");
    ifreq request = request_for(name);
    request.ifr_mtu = mtu;
    checked(ioctl(socket, SIOCSIFMTU, &request), name + ": MTU");
    request.ifr_qlen = 4000;
    checked(ioctl(socket, SIOCSIFTXQLEN, &request), name + ": queue length");
  }
  ifreq request = request_for(name);
  set_flag(socket, request, name);
  close(socket);
}

// -1 when a device of that name exists.
int open_tun(const std::string& name) {
  const int tun = checked(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "/dev/net/tun");
  ifreq request = request_for(name);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tun, TUNSETIFF, &request) == 0) return tun;
  if (errno != EBUSY) fail("making the device " + name);
  close(tun);
  return -1;
}

class Relay {
 public:
  Relay(int sites, int mtu) : mtu_(mtu), links_(static_cast<size_t>(sites)) {
    for (network_ = 0; client_ < 0 && network_ < 256; ++network_)
      client_ = open_tun("dcs" + std::to_string(network_));
    if (client_ < 0) fail("no free network");
    --network_;
    bring_up("dcs" + std::to_string(network_), address(kClientHost), mtu);
    const int home = checked(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "own namespace");
    for (int site = 0; site < sites; ++site) {
      checked(unshare(CLONE_NEWNET), "a network namespace");
      namespaces_.push_back(checked(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "namespace"));
      tuns_.push_back(checked(open_tun("wan"), "wan"));
      bring_up("lo", "127.0.0.1", mtu);
      bring_up("wan", address(site + 1), mtu);
      checked(setns(home, CLONE_NEWNET), "returning to the own namespace");
      Link& link = links_[static_cast<size_t>(site)];
      up_.push_back(std::make_unique<Direction>(
          link, [this](const uint8_t* frame, size_t size, const Shape& shape) {
            from_hub(frame, size, shape);
          }));
      down_.push_back(std::make_unique<Direction>(
          link, [tun = tuns_.back()](const uint8_t* frame, size_t size, const Shape&) {
            // A full device loses the packet, as any network may.
            if (write(tun, frame, size) < 0) return;
          }));
    }
    close(home);
    choose_offload();
  }

  void run(const std::string& control_path) {
    listen_at(control_path);
    epoll_ = checked(epoll_create1(EPOLL_CLOEXEC), "epoll");
    timer_ = checked(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd");
    for (int fd : {client_, control_, timer_}) watch(fd);
    for (int tun : tuns_) watch(tun);
    announce();
    epoll_event events[kSitesMax + 3 + kPeersMax];
    for (;;) {
      const int count = epoll_wait(epoll_, events, std::size(events), -1);
      if (count < 0 && errno != EINTR) fail("epoll_wait");
      for (int i = 0; i < count; ++i) handle(events[i].data.fd);
      now_ = now_ns();
      for (auto& direction : up_) direction->deliver_due(now_);
      for (auto& direction : down_) direction->deliver_due(now_);
      arm();
    }
  }

 private:
  std::string address(int host) const {
    return "198.18." + std::to_string(network_) + "." + std::to_string(host);
  }
  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }
  void announce() const {
    std::printf("{\"pid\": %d, \"device\": \"dcs%d\", \"client\": \"%s\", \"sites\": [", getpid(),
                network_, address(kClientHost).c_str());
    for (size_t i = 0; i < namespaces_.size(); ++i)
      std::printf("%s{\"address\": \"%s\", \"namespace\": \"/proc/%d/fd/%d\"}", i ? ", " : "",
                  address(static_cast<int>(i) + 1).c_str(), getpid(), namespaces_[i]);
    std::printf("]}\n");
    std::fflush(stdout);
  }
  void listen_at(const std::string& path) {
    control_ = checked(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "control socket");
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.size() >= sizeof name.sun_path) {
      errno = ENAMETOOLONG;
      fail(path);
    }
    std::strcpy(name.sun_path, path.c_str());
    unlink(path.c_str());
    checked(bind(control_, reinterpret_cast<sockaddr*>(&name), sizeof name), path);
    checked(listen(control_, 16), path);
  }
  void arm() {
    int64_t due = INT64_MAX;
    for (const auto& direction : up_) due = std::min(due, direction->next_due());
    for (const auto& direction : down_) due = std::min(due, direction->next_due());
    itimerspec at{};
    if (due != INT64_MAX) at.it_value = {due / 1'000'000'000, due % 1'000'000'000};
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &at, nullptr);
  }
  void handle(int fd) {
    now_ = now_ns();
    if (fd == timer_) {
      uint64_t expirations;
      if (read(timer_, &expirations, sizeof expirations) < 0) return;
    } else if (fd == control_) {
      accept_peer();
    } else if (std::find(peers_.begin(), peers_.end(), fd) != peers_.end()) {
      answer(fd);
    } else {
      for (int packets = 0; packets < 32; ++packets) {
        const ssize_t size = read(fd, buffer_.data(), buffer_.size());
        if (size <= 0) return;
        route(fd, static_cast<size_t>(size));
      }
    }
  }
  void route(int fd, size_t size) {
    const Shape shape = shape_of(buffer_.data(), size);
    if (!shape.ok) return;
    if (fd == client_) return from_hub(buffer_.data(), size, shape);
    const size_t site =
        static_cast<size_t>(std::find(tuns_.begin(), tuns_.end(), fd) - tuns_.begin());
    up_[site]->send(buffer_.data(), size, shape, now_, random_);
  }
  void from_hub(const uint8_t* frame, size_t size, const Shape& shape) {
    if (shape.host == kClientHost) {
      if (write(client_, frame, size) < 0) return;
    } else if (shape.host >= 1 && shape.host <= down_.size()) {
      down_[shape.host - 1]->send(frame, size, shape, now_, random_);
    }
  }
  // Single packets can be lost only when the kernel cuts segments before it hands them over.
  void choose_offload() {
    const bool loss =
        std::any_of(links_.begin(), links_.end(), [](const Link& l) { return l.loss_ppm > 0; });
    const unsigned long offload = TUN_F_CSUM | (loss ? 0 : TUN_F_TSO4);
    checked(ioctl(client_, TUNSETOFFLOAD, offload), "offload");
    for (int tun : tuns_) checked(ioctl(tun, TUNSETOFFLOAD, offload), "offload");
  }

  void accept_peer() {
    const int peer = accept4(control_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0) return;
    if (peers_.size() == kPeersMax) close_peer(peers_.front());  // it never asked
    peers_.push_back(peer);
    watch(peer);
  }
  void close_peer(int peer) {
    close(peer);
    std::erase(peers_, peer);
  }
  // One question, one answer.
  void answer(int peer) {
    char text[256];
    const ssize_t size = recv(peer, text, sizeof text, 0);
    if (size > 0) {
      const std::string reply = obey(std::string(text, static_cast<size_t>(size)));
      if (send(peer, reply.data(), reply.size(), MSG_NOSIGNAL) < 0) perror("site_relay: reply");
    }
    close_peer(peer);
  }
  // "counters", "cut SITE", "heal SITE", "link SITE DELAY_NS RATE_BITS LOSS_PPM" (-1: as it was).
  std::string obey(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    size_t site = 0;
    words >> verb;
    if (verb == "counters") return counters();
    if (!(words >> site) || site < 1 || site > links_.size()) return "no such site";
    Link& link = links_[site - 1];
    int64_t delay = 0, rate = 0, loss = 0;
    if (verb == "cut" || verb == "heal") {
      link.cut = verb == "cut";
    } else if (verb == "link" && words >> delay >> rate >> loss) {
      if (delay >= 0) link.delay_ns = delay;
      if (rate >= 0) link.rate_bits = static_cast<uint64_t>(rate);
      if (loss >= 0) link.loss_ppm = static_cast<uint64_t>(loss);
      choose_offload();
    } else {
      return "not understood";
    }
    return "ok";
  }
  std::string counters() const {
    auto one = [](const Counters& c) {
      return "{\"bytes\": " + std::to_string(c.bytes) +
             ", \"tcp_bytes\": " + std::to_string(c.tcp_bytes) +
             ", \"packets\": " + std::to_string(c.packets) +
             ", \"dropped\": " + std::to_string(c.dropped) + "}";
    };
    std::string text = "[";
    for (size_t i = 0; i < links_.size(); ++i)
      text += (i ? ", " : "") + std::string("{\"site\": ") + std::to_string(i + 1) +
              ", \"cut\": " + (links_[i].cut ? "true" : "false") +
              ", \"rtt_ms\": " + std::to_string(static_cast<double>(links_[i].delay_ns) / 5e5) +
              ", \"rate_bits\": " + std::to_string(links_[i].rate_bits) +
              ", \"loss_ppm\": " + std::to_string(links_[i].loss_ppm) +
              ", \"to_site\": " + one(down_[i]->counters()) +
              ", \"from_site\": " + one(up_[i]->counters()) + "}";
    return text + "]";
  }

  int mtu_, network_ = 0, client_ = -1, control_ = -1, timer_ = -1, epoll_ = -1;
  int64_t now_ = 0;
  std::vector<Link> links_;  // never grows: directions refer to its elements
  std::vector<int> tuns_, namespaces_, peers_;
  std::vector<std::unique_ptr<Direction>> up_, down_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(256 << 10);
  std::mt19937_64 random_{1};
};

}  // namespace

int main(int argc, char** argv) {
  const int sites = argc > 2 ? std::atoi(argv[1]) : 0;
  const int mtu = argc > 3 ? std::atoi(argv[3]) : 1500;
  if (sites < 1 || sites > kSitesMax || mtu < 576) {
    std::fprintf(stderr, "usage: site_relay SITES CONTROL_SOCKET [MTU]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  Relay(sites, mtu).run(argv[2]);
}
