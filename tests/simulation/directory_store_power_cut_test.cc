// Power cuts under the directory store, at any call: what was acknowledged is there, what was not
// is absent or whole, a marker means a complete site. And each fsync is needed: ignoring any one of
// them breaks one of these promises under some cut.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "common/store/directory_store.h"
#include "common/store/object_compute.h"
#include "tests/support/seeded.h"
#include "tests/support/simulated_files.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

const std::string kRoot = "/srv/site";
const SiteMarker kMarker{"uuid-1", "demo", "one", 1, 1};

Attributes attributes_of(const std::string& name, size_t size) {
  if (name.size() % 2 == 0) return {};
  Attributes attributes = shard_attributes(1, Bytes(kFieldBytes * audit_blocks_of(size)));
  attributes["name"] = name;
  return attributes;
}

struct Object {
  Bytes data;
  Attributes attributes;
  bool may_exist = false;
  bool must_exist = false;
};

// A site over a simulated disk, and what it has promised so far.
class PromisedSite {
 public:
  explicit PromisedSite(std::shared_ptr<SimulatedFiles> files) : files_(std::move(files)) {}

  void format() {
    formatted_ = bool(format_directory(*files_, kRoot, kMarker));
    open();
  }
  void open() {
    DirectoryStoreOptions options{kRoot, kMarker, 1, files_};
    store_ = make_directory_store(options);
  }
  void close() { store_.reset(); }

  void put(const std::string& name, size_t size) {
    auto& object = objects_[name];
    object.data = contents_of(name, size);
    object.attributes = attributes_of(name, size);
    object.may_exist = true;
    auto answer = datacloud::put(*store_, name, object.data, object.attributes);
    if (answer) object.must_exist = true;
  }

  // From an object put with attributes; `grown` bytes longer.
  void derive(const std::string& name, const std::string& source, size_t grown) {
    const Object from = objects_[source];
    auto& object = objects_[name];
    const Derivation derivation{source, 1, 2, from.data.size() + grown, {{0, {7}}}, {{0, {9}}}};
    auto made = derive_object(from.data, from.attributes, derivation).value();
    object.data = std::move(made.data);
    object.attributes = std::move(made.attributes);
    auto answer = datacloud::derive(*store_, name, derivation);
    object.may_exist = answer || !answer.error().is(Errc::not_found);
    if (answer) object.must_exist = true;
  }

  void remove(const std::string& name) {
    if (!files_->stat("/")) return;  // the power is off: this call cannot change anything
    auto& object = objects_[name];
    object.must_exist = false;
    auto answer = datacloud::remove(*store_, name);
    if (answer) object.may_exist = false;
  }

  // What is broken, empty when nothing is. The store is open.
  std::string violation() {
    auto marker = read_directory_marker(*files_, kRoot);
    if (!marker) return marker_violation(marker.error());
    if (!(marker.value() == kMarker)) return "another marker";
    std::set<std::string> listed;
    std::string from;
    do {
      auto reply = list(*store_, from, 3);
      if (!reply) return "marker without a complete site: " + reply.error().message();
      listed.insert(reply.value().names.begin(), reply.value().names.end());
      from = reply.value().next;
    } while (!from.empty());
    for (const auto& name : listed) {
      if (!objects_.count(name)) return "listed an object nobody put: " + name;
    }
    for (const auto& [name, object] : objects_) {
      auto broken = object_violation(name, object, listed.count(name) != 0);
      if (!broken.empty()) return broken;
    }
    return "";
  }

  // After a cut everything that survived is a fact to be kept.
  void settle() {
    for (auto& [name, object] : objects_) {
      object.must_exist = object.may_exist = bool(read(name));
    }
  }

 private:
  std::string marker_violation(const Error& error) {
    if (formatted_) return "acknowledged format, but " + error.message();
    if (!error.is(Errc::not_found)) return "damaged marker: " + error.message();
    auto again = format_directory(*files_, kRoot, kMarker);
    return again ? "" : "cannot complete an interrupted format: " + again.error().message();
  }

  result<ReadReply> read(const std::string& name) {
    return datacloud::read(*store_, name, {{0, 1u << 20}}, true);
  }

  std::string object_violation(const std::string& name, const Object& object, bool listed) {
    auto reply = read(name);
    if (!reply) {
      if (!reply.error().is(Errc::not_found)) return "half an object: " + reply.error().message();
      if (listed) return "listed but not there: " + name;
      return object.must_exist ? "acknowledged object lost: " + name : "";
    }
    if (!object.may_exist) return "removed object came back: " + name;
    if (!listed) return "there but not listed: " + name;
    const bool whole =
        reply.value().ranges[0] == object.data && reply.value().attributes == object.attributes;
    return whole ? "" : "half an object: " + name;
  }

  const std::shared_ptr<SimulatedFiles> files_;
  std::unique_ptr<ObjectStore> store_;
  bool formatted_ = false;
  std::map<std::string, Object> objects_;
};

// Names in different fan-out directories and of different shapes.
std::string object_name(uint64_t i) { return std::string("obj").append(std::to_string(i * 7919)); }

void use(PromisedSite& site) {
  site.format();
  site.put(object_name(1), 3000);
  site.put(object_name(22), 5);
  site.derive(object_name(333), object_name(1), 5000);
  site.remove(object_name(1));
}

// Runs `use` with the power failing at `change`, cuts it, and looks.
std::string run_once(uint64_t change, uint64_t seed, std::optional<uint64_t> ignored_sync) {
  auto files = std::make_shared<SimulatedFiles>();
  EXPECT_TRUE(files->make_directory("/srv"));
  EXPECT_TRUE(files->sync_directory("/"));
  files->ignore_sync(ignored_sync);
  files->fail_power_at(change);
  PromisedSite site(files);
  use(site);
  site.close();
  files->power_cut(seed);
  files->ignore_sync(std::nullopt);
  site.open();
  return site.violation();
}

struct Shape {
  uint64_t changes;
  std::vector<std::string> syncs;
};

Shape shape() {
  auto files = std::make_shared<SimulatedFiles>();
  EXPECT_TRUE(files->make_directory("/srv"));
  EXPECT_TRUE(files->sync_directory("/"));
  PromisedSite site(files);
  use(site);
  EXPECT_EQ(site.violation(), "");
  return {files->change_count(), files->sync_log()};
}

// Every change is a place to cut, except that of the 256 equal directories a few will do.
std::vector<uint64_t> cut_points(uint64_t changes) {
  std::vector<uint64_t> points;
  for (uint64_t change = 0; change <= changes; ++change) {
    if (change < 8 || change > 250 || change % 50 == 0) points.push_back(change);
  }
  return points;
}

TEST(DirectoryStorePowerCut, EveryCallSurvivesACut) {
  for (const uint64_t change : cut_points(shape().changes)) {
    for (uint64_t seed = 0; seed < 12; ++seed) {
      ASSERT_EQ(run_once(change, seed, std::nullopt), "")
          << "change " << change << " seed " << seed;
    }
  }
}

// One run per sync: without it there must be a cut that breaks a promise.
TEST(DirectoryStorePowerCut, EverySyncIsNeeded) {
  const Shape whole = shape();
  const auto points = cut_points(whole.changes);
  // The first sync is this test's own, of "/" after making /srv.
  ASSERT_GE(whole.syncs.size(), 10u);
  for (uint64_t sync = 1; sync < whole.syncs.size(); ++sync) {
    std::string found;
    for (uint64_t seed = 0; seed < 40 && found.empty(); ++seed) {
      for (auto point = points.rbegin(); point != points.rend() && found.empty(); ++point) {
        found = run_once(*point, seed, sync);
      }
    }
    EXPECT_NE(found, "") << "sync " << sync << " (" << whole.syncs[sync] << ") is not needed";
  }
}

TEST(DirectoryStorePowerCut, RandomLivesWithManyCuts) {
  Seeded seeds;
  for (int round = 0; round < 40; ++round) {
    const uint64_t seed = seeds.number(0, UINT64_MAX);
    SCOPED_TRACE(round);
    std::mt19937_64 random(seed);
    auto files = std::make_shared<SimulatedFiles>();
    PromisedSite site(files);
    site.format();
    std::vector<std::string> put;
    uint64_t next = 1;
    for (int life = 0; life < 8; ++life) {
      const uint64_t operations = 1 + random() % 30;
      files->fail_power_at(files->change_count() + random() % (operations * 6));
      for (uint64_t i = 0; i < operations; ++i) {
        if (!put.empty() && random() % 3 == 0) {
          const size_t victim = random() % put.size();
          site.remove(put[victim]);
          put.erase(put.begin() + static_cast<std::ptrdiff_t>(victim));
        } else {
          const bool derivable =
              !put.empty() && put.back().size() % 2 == 1 && put.back().back() != 'd';
          const std::string source = derivable ? put.back() : "";
          put.push_back(object_name(next++));
          if (derivable && random() % 4 == 0) {
            site.derive(put.back() + ".d", source, random() % 5000);
            put.back() += ".d";
          } else {
            site.put(put.back(), 1 + random() % 5000);
          }
        }
      }
      site.close();
      files->power_cut(random());
      site.open();
      ASSERT_EQ(site.violation(), "") << "life " << life;
      site.settle();
    }
  }
}

}  // namespace
}  // namespace datacloud
