// A site and its node on one machine: the way past TLS, what it carries, and who may not go there.
#include "common/store/remote/site_local.h"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "common/rpc/rpc_dial.h"
#include "common/store/remote/site_connection.h"
#include "common/store/remote/site_frame.h"
#include "common/store/remote/site_tickets.h"
#include "tests/support/seeded.h"
#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

TEST(WindowRooms, NeverOverlapAndNeverLeak) {
  Seeded seeded;
  auto& random = seeded.engine();
  constexpr uint64_t bytes = 1 << 20;
  WindowRooms rooms(bytes);
  std::map<uint64_t, uint64_t> taken;
  for (int i = 0; i < 3000; ++i) {
    if (!taken.empty() && random() % 2 == 0) {
      const auto victim = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      rooms.give_back(victim->first);
      taken.erase(victim);
      continue;
    }
    const uint64_t wanted = 1 + random() % (bytes / 8);
    const auto at = rooms.take(wanted);
    if (!at) continue;
    ASSERT_LE(*at + wanted, bytes);
    const auto after = taken.lower_bound(*at);
    if (after != taken.end()) {
      ASSERT_LE(*at + wanted, after->first);
    }
    if (after != taken.begin()) {
      ASSERT_LE(std::prev(after)->second, *at);
    }
    taken.emplace(*at, *at + wanted);
  }
  for (const auto& [at, end] : taken) rooms.give_back(at);
  EXPECT_TRUE(rooms.empty());
  EXPECT_EQ(rooms.take(bytes), 0u) << "all of it, once it is empty";
  EXPECT_FALSE(rooms.take(1));
  EXPECT_FALSE(WindowRooms(bytes).take(bytes + 1));
}

TEST(SiteWindow, TakesNoMemoryThatMayShrinkNorWhatIsNone) {
  const auto refused = [](int fd, size_t bytes_max = 1 << 20) {
    const auto adopted = SiteWindow::adopt(fd, bytes_max);
    return adopted ? std::string() : adopted.error().text();
  };
  const int shrinks = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(shrinks, 8192), 0);
  EXPECT_THAT(refused(shrinks), HasSubstr("may shrink"));
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  EXPECT_THAT(refused(pipe[0]), HasSubstr("is none"));
  ::close(pipe[1]);
  const auto made = SiteWindow::make(64 << 10).value();
  EXPECT_THAT(refused(::dup(made->fd()), 4096), HasSubstr("too large"));
  EXPECT_NE(::ftruncate(made->fd(), 4096), 0) << "nobody can shrink it";
  const auto other = SiteWindow::adopt(::dup(made->fd()), 64 << 10).value();
  made->at(5, 1)[0] = 7;
  EXPECT_EQ(other->at(5, 1)[0], 7);
  EXPECT_TRUE(other->holds(0, 64 << 10));
  EXPECT_FALSE(other->holds(1, 64 << 10));
  EXPECT_FALSE(other->holds(UINT64_MAX, 2));
  made->release();
  EXPECT_EQ(other->at(5, 1)[0], 0);
}

TEST(SiteTickets, AreGoodOnce) {
  SiteTickets tickets;
  const auto ticket = tickets.issue({{"gpu07", true, false, 0, {}}, 7});
  ASSERT_TRUE(ticket);
  EXPECT_FALSE(tickets.redeem("short"));
  const auto holder = tickets.redeem(*ticket);
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->admission.node, "gpu07");
  EXPECT_EQ(holder->uid, 7u);
  EXPECT_FALSE(tickets.redeem(*ticket));
  auto wrong = tickets.issue({}).value();
  const auto right = wrong;
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  EXPECT_FALSE(tickets.redeem(wrong));
  EXPECT_FALSE(tickets.redeem(right)) << "one guess, not many";
  std::set<std::string> all;
  for (size_t i = 0; i < kTicketsMax; ++i) all.insert(tickets.issue({}).value());
  EXPECT_EQ(all.size(), kTicketsMax);
  EXPECT_FALSE(tickets.issue({})) << "bounded";
}

class SiteLocal : public testing::Test {
 protected:
  SiteLocal() {
    site_.on_this_machine = true;
    site_.start();
  }
  uint64_t local() const { return site_.server->counters().local_connections; }
  // A peer that speaks as it likes, with that certificate.
  std::unique_ptr<TlsStream> dial(NodeRoles roles = NodeRole::mount) {
    Dial dial({site_.address()}, site_.cloud.node("wild", roles),
              [](const TlsStream&) -> result<void> { return success(); });
    auto stream = dial.wait();
    EXPECT_TRUE(stream) << stream.error().text();
    return std::move(stream).value();
  }
  pb::StoreRequest hello(std::optional<uid_t> uid = {}) const {
    pb::StoreRequest request;
    request.mutable_hello()->set_marker(site_.marker().encode());
    request.mutable_hello()->set_local(uid.has_value());
    request.mutable_hello()->set_uid(uid.value_or(0));
    return request;
  }
  static result<pb::StoreReply> ask(ByteStream& stream, pb::StoreRequest request) {
    return ask_site(stream, std::move(request), seconds(10));
  }

  ServedSite site_;
};

TEST_F(SiteLocal, BytesGoThroughTheWindow) {
  auto options = site_.options_for();
  const auto store = make_remote_store(options);
  const Bytes data = contents_of("one", 3'000'000);
  ASSERT_TRUE(put(*store, "one", data, {{"a", "b"}}));
  EXPECT_EQ(local(), 1u);
  const auto all = read(*store, "one", {{0, 3'000'000}, {2'999'000, 50'000}, {5, 0}}, true);
  ASSERT_TRUE(all) << all.error().text();
  EXPECT_TRUE(all.value().ranges[0] == data);
  EXPECT_TRUE(all.value().ranges[1] == Bytes(data.end() - 1000, data.end())) << "shortened";
  EXPECT_TRUE(all.value().ranges[2].empty());
  EXPECT_EQ(all.value().attributes.at("a"), "b");
  EXPECT_EQ(all.value().object_size, 3'000'000u);
  const auto here = make_directory_store({site_.root(), site_.marker(), 2, nullptr});
  EXPECT_TRUE(read_all(*here, "one").value() == data);
  const auto& counters = site_.server->counters();
  EXPECT_EQ(counters.window_bytes, 6'001'000u);
  EXPECT_LT(counters.sent_bytes + counters.received_bytes - counters.window_bytes, 100'000u)
      << "not by the socket";
  EXPECT_TRUE(put(*store, "one", data).error().is(Errc::exists));
  EXPECT_TRUE(read(*store, "two", {{0, 100'000}}).error().is(Errc::not_found));
}

// Many at once, in a window that holds few: some wait, some are too large for it, some too small.
TEST_F(SiteLocal, ManyAtOnceInASmallWindow) {
  Seeded seeded;
  auto& random = seeded.engine();
  auto options = site_.options_for();
  options.window_bytes = 256 << 10;
  const auto store = make_remote_store(options);
  std::map<std::string, Bytes> written;
  std::vector<std::future<bool>> waiting;
  for (int i = 0; i < 60; ++i) {
    const std::string name = "object-" + std::to_string(i);
    const size_t sizes[] = {random() % 100, random() % 20'000, random() % 200'000,
                            200'000 + random() % 200'000};
    Bytes data = contents_of(name, sizes[random() % 4]);
    auto done = std::make_shared<std::promise<bool>>();
    waiting.push_back(done->get_future());
    auto owner = std::make_shared<const Bytes>(data);
    const size_t cut = data.empty() ? 0 : random() % data.size();
    const ByteView whole(*owner);
    store->put(name, Payload{{whole.first(cut), whole.subspan(cut)}, owner}, {}, {},
               [done](auto r) { done->set_value(!!r); });
    written.emplace(name, std::move(data));
  }
  for (auto& done : waiting) EXPECT_TRUE(done.get());
  EXPECT_EQ(local(), 1u);
  std::vector<std::future<bool>> right;
  for (int i = 0; i < 300; ++i) {
    const auto it = std::next(written.begin(), static_cast<long>(random() % written.size()));
    const Bytes& data = it->second;
    std::vector<ByteRange> ranges;
    for (size_t n = 1 + random() % 4; n > 0; --n)
      ranges.push_back({random() % (data.size() + 10), random() % 150'000});
    auto done = std::make_shared<std::promise<bool>>();
    right.push_back(done->get_future());
    store->read(it->first, ranges, random() % 2 == 0, {},
                [done, ranges, &data](result<ReadReply> r) {
                  bool good = r && r.value().ranges.size() == ranges.size();
                  for (size_t k = 0; good && k < ranges.size(); ++k) {
                    const size_t from = std::min<size_t>(ranges[k].offset, data.size());
                    const size_t n = std::min<size_t>(ranges[k].length, data.size() - from);
                    good = r.value().ranges[k] == Bytes(data.begin() + static_cast<long>(from),
                                                        data.begin() + static_cast<long>(from + n));
                  }
                  done->set_value(good);
                });
  }
  for (auto& done : right) EXPECT_TRUE(done.get());
}

TEST_F(SiteLocal, TlsGoesOnWhereThereIsNoLocalWay) {
  site_.stop();
  site_.limits.window_bytes_max = 0;
  site_.start();
  const auto store = site_.open();
  ASSERT_TRUE(put(*store, "one", Bytes(100'000, 1)));
  EXPECT_EQ(read_all(*store, "one").value().size(), 100'000u);
  EXPECT_EQ(local(), 0u);
  // Refused after the ticket: the budget is used up by the first of two.
  site_.stop();
  site_.limits.window_bytes_max = 1 << 20;
  site_.limits.windows_bytes_max = (1 << 20) + 1;
  site_.start();
  const auto first = site_.open(), second = site_.open();
  ASSERT_TRUE(put(*first, "two", Bytes(100'000, 2)));
  ASSERT_TRUE(put(*second, "three", Bytes(100'000, 3)));
  EXPECT_EQ(read_all(*first, "three").value(), Bytes(100'000, 3));
  EXPECT_EQ(local(), 1u);
}

TEST_F(SiteLocal, ComesBackWithTheServer) {
  const auto store = site_.open();
  ASSERT_TRUE(put(*store, "one", Bytes(100'000, 1)));
  site_.stop();
  EXPECT_FALSE(read(*store, "one", {{0, 100'000}}));
  site_.start();
  const auto until = monotonic_now() + seconds(20);
  while (!check(*store) && monotonic_now() < until) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(read(*store, "one", {{0, 100'000}}).value().ranges[0], Bytes(100'000, 1));
  EXPECT_EQ(local(), 1u);
}

TEST_F(SiteLocal, TheRoleComesAlong) {
  ASSERT_TRUE(put(*site_.open(), "one", Bytes(50'000, 1)));
  const auto reader = site_.open(NodeRole::mount_ro);
  EXPECT_EQ(read(*reader, "one", {{0, 50'000}}).value().ranges[0], Bytes(50'000, 1));
  EXPECT_EQ(put(*reader, "two", Bytes(50'000, 2)).error().errno_value(), EROFS);
  EXPECT_EQ(remove(*reader, "one").error().errno_value(), EROFS);
  EXPECT_EQ(local(), 2u);
}

TEST_F(SiteLocal, ATicketIsGoodOnceAndForItsUserOnly) {
  const auto tls = dial();
  const auto offer = ask(*tls, hello(::geteuid())).value();
  ASSERT_TRUE(offer.has_local());
  const auto first = connect_local(offer.local(), 1 << 20);
  ASSERT_TRUE(first) << first.error().text();
  ASSERT_TRUE(ask(*first.value().stream, hello()));
  EXPECT_FALSE(ask(*first.value().stream, hello(::geteuid())).value().has_local())
      << "no ticket for whoever has come by one";
  const auto again = connect_local(offer.local(), 1 << 20);
  ASSERT_TRUE(again);
  EXPECT_FALSE(ask(*again.value().stream, hello()));
  // It was issued to another user of the machine.
  const auto foreign = ask(*tls, hello(::geteuid() + 1)).value();
  const auto taken = connect_local(foreign.local(), 1 << 20);
  ASSERT_TRUE(taken);
  EXPECT_FALSE(ask(*taken.value().stream, hello()));
  // The socket belongs to another user than the server has said.
  auto forged = ask(*tls, hello(::geteuid())).value().local();
  forged.set_uid(::geteuid() + 1);
  EXPECT_THAT(connect_local(forged, 1 << 20).error().text(), HasSubstr("another user"));
  EXPECT_EQ(local(), 1u);
  EXPECT_GE(site_.server->refusals().of(Refusal::handshake), 2u);
}

TEST_F(SiteLocal, NobodyReachesOutsideTheWindow) {
  ASSERT_TRUE(put(*site_.open(), "one", Bytes(50'000, 1)));
  const auto tls = dial();
  const auto closes = [&](auto change) {
    const auto offer = ask(*tls, hello(::geteuid())).value();
    auto local = connect_local(offer.local(), 64 << 10);
    EXPECT_TRUE(local && ask(*local.value().stream, hello()));
    pb::StoreFrame frame;
    frame.set_id(5);
    frame.mutable_request()->set_name("one");
    change(frame);
    SiteLink link(std::move(local.value().stream));
    link.send(make_site_frame(std::move(frame), {}, nullptr));
    struct Nothing final : SiteLink::Owner {
      result<bool> on_head(const pb::StoreFrame&, uint64_t) override { return true; }
      result<void> on_frame(SiteFrameReader::Whole whole) override {
        answered = answered || whole.head.id() == 5;
        return success();
      }
      bool answered = false;
    } owner;
    const auto until = monotonic_now() + seconds(10);
    while (monotonic_now() < until && !owner.answered) {
      if (!link.turn(owner)) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  };
  const auto reading = [](uint64_t offset, uint64_t length) {
    return [=](pb::StoreFrame& frame) {
      auto& range = *frame.mutable_request()->mutable_read()->add_ranges();
      range.set_length(length);
      auto& space = *frame.mutable_request()->add_space();
      space.set_offset(offset);
      space.set_length(length);
    };
  };
  const auto putting = [](uint64_t in_window, uint32_t bytes) {
    return [=](pb::StoreFrame& frame) {
      frame.mutable_request()->set_name("put-" + std::to_string(in_window));
      (void)frame.mutable_request()->mutable_put();
      frame.add_segments(bytes);
      frame.add_in_window(in_window);
    };
  };
  EXPECT_FALSE(closes(reading(0, 50'000))) << "this one is right";
  EXPECT_TRUE(closes(reading(64 << 10, 1)));
  EXPECT_TRUE(closes(reading(60'000, 50'000)));
  EXPECT_TRUE(closes(reading(UINT64_MAX, 2)));
  EXPECT_FALSE(closes(putting(1, 50'000))) << "this one, too";
  EXPECT_TRUE(closes(putting(60'001, 50'000)));
  EXPECT_TRUE(closes(putting(UINT64_MAX, 2)));
  // A space smaller than its range is no space, and nothing is written past it.
  EXPECT_FALSE(closes([&](pb::StoreFrame& frame) {
    reading(0, 50'000)(frame);
    frame.mutable_request()->mutable_space(0)->set_length(10);
  }));
}

TEST_F(SiteLocal, WhoIsRevokedIsOutHereToo) {
  const auto credentials = site_.cloud.credentials("gpu07", NodeRole::mount);
  const auto shown = judge_certificate(credentials.certificate, credentials.authority,
                                       CertificateUse::client, wall_now_ns());
  auto serials = std::make_shared<NodesInForce::Serials>();
  auto mutex = std::make_shared<std::mutex>();
  serials->insert(shown.serial);
  site_.stop();
  NodesInForce::Options asking;
  asking.ask = [=]() -> result<NodesInForce::Serials> {
    std::lock_guard lock(*mutex);
    return *serials;
  };
  asking.interval = milliseconds(50);
  site_.nodes = std::make_shared<NodesInForce>(std::move(asking));
  site_.start();
  auto options = site_.options_for();
  options.context = [&] { return TlsContext::make(TlsContext::Side::client, credentials); };
  const auto store = make_remote_store(options);
  ASSERT_TRUE(put(*store, "one", Bytes(50'000, 1)));
  EXPECT_EQ(local(), 1u);
  {
    std::lock_guard lock(*mutex);
    serials->clear();
  }
  const auto until = monotonic_now() + seconds(20);
  while (check(*store) && monotonic_now() < until) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(check(*store));
}

}  // namespace
}  // namespace datacloud
