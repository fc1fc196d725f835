// Listings over the real records of a directory that is changed all the time: by creates, unlinks,
// renames in place, over names, through one temporary name, exchanges and moves to another
// directory and back, several listings at once, as of several mounts, and over restarts of the
// daemon.
#include "fs/file/directory_listing.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {
namespace {

using Names = std::map<std::string, InodeId>;

// What a listing has to be judged by: what was there, and what happened meanwhile.
struct Listing {
  DirectoryListing rule;
  uint64_t cookie = 2;  // behind "." and ".."
  bool ended = false;
  size_t there_at_start = 0;
  std::set<std::string> staying;                      // there at the start and ever since
  std::map<std::string, std::set<InodeId>> holders;   // each name, and the files that have had it
  std::map<InodeId, std::set<std::string>> faithful;  // only renamed in place, if at all; its names
  std::multiset<std::string> seen;
  std::multiset<InodeId> seen_files;
  std::vector<std::pair<uint64_t, std::string>> told;  // telldir: the position behind each entry
};

class DirectoryListingTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    directory_ = make("directory");
    elsewhere_ = make("elsewhere");
  }

  InodeId make(const std::string& name) {
    pb::CreateRequest request;
    request.set_parent(kRootInode);
    request.set_name(name);
    request.set_mode(S_IFDIR | 0755);
    const InodeId ino = next_ino_++;
    EXPECT_TRUE(apply([&](Transaction& txn) { return create(txn, request, ino); }));
    return ino;
  }
  void fill(int count) {
    for (int done = 0; done < count;) {
      const auto outcome = apply([&](Transaction& txn) -> result<void> {
        for (int i = 0; i < 5000 && done < count; ++i, ++done) {
          TRY(add(txn, "file" + std::to_string(done)));
        }
        return success();
      });
      ASSERT_TRUE(outcome) << outcome.error().message();
    }
  }
  result<void> add(Transaction& txn, const std::string& name) {
    pb::CreateRequest request;
    request.set_parent(directory_);
    request.set_name(name);
    request.set_mode(S_IFREG | 0644);
    request.set_exclusive(true);
    TRY(create(txn, request, next_ino_));
    names_[name] = next_ino_++;
    return success();
  }

  Listing& begin() {
    listings_.push_back(std::make_unique<Listing>());
    Listing& listing = *listings_.back();
    listing.there_at_start = names_.size();
    for (const auto& [name, ino] : names_) {
      listing.staying.insert(name);
      listing.holders[name].insert(ino);
      listing.faithful[ino].insert(name);
    }
    return listing;
  }

  // Takes some entries of the next page, as a mount with a small buffer does.
  void read_some(Listing& listing) {
    pb::ReadDirRequest request;
    request.set_ino(directory_);
    request.set_cookie(listing.cookie);
    request.set_count_max(1 + random_() % page_max_);
    listing.rule.ask(request);
    const auto page = read_directory(store_->begin(), request);
    ASSERT_TRUE(page) << page.error().message();
    listing.rule.learn(page.value());
    const auto& items = page.value().items();
    const int take = items.size() - (random_() % 3 == 0 ? static_cast<int>(random_() % 3) : 0);
    listing.ended = page.value().end() && take >= items.size();
    for (int i = 0; i < take; ++i) {
      ASSERT_GT(items[i].entry().cookie(), listing.cookie);
      listing.cookie = items[i].entry().cookie();
      if (!listing.rule.shows(items[i])) continue;
      listing.seen.insert(items[i].name());
      listing.seen_files.insert(items[i].entry().ino());
      listing.told.emplace_back(listing.cookie, items[i].name());
      ASSERT_TRUE(listing.holders[items[i].name()].contains(items[i].entry().ino()))
          << items[i].name() << " never stood for that file";
    }
  }

  void judge(const Listing& listing) {
    EXPECT_LE(listing.seen.size(), listing.there_at_start);
    for (const auto& name : listing.staying) {
      ASSERT_EQ(listing.seen.count(name), 1u) << name << " was there all the time";
    }
    for (const auto& name : listing.seen) {
      ASSERT_LE(listing.seen.count(name), 2u) << name;
    }
    for (const auto& [ino, names] : listing.faithful) {
      const bool alone = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        return listing.holders.at(name).size() == 1;
      });
      if (alone) {
        ASSERT_EQ(listing.seen_files.count(ino), 1u) << *names.begin() << " was only renamed";
      }
    }
  }

  // `name` stands for another file now, or (0) for none.
  void changed(const std::string& name, InodeId ino) {
    for (auto& listing : listings_) {
      if (ino == 0) listing->staying.erase(name);
      if (ino != 0) listing->holders[name].insert(ino);
    }
    if (ino != 0)
      names_[name] = ino;
    else
      names_.erase(name);
  }
  void unfaithful(InodeId ino) {
    for (auto& listing : listings_) listing->faithful.erase(ino);
  }

  std::string pick() {
    auto it = names_.lower_bound("file" + std::to_string(random_() % 100'000));
    return it == names_.end() ? names_.begin()->first : it->first;
  }
  std::string fresh() { return "new" + std::to_string(next_name_++); }

  void rename_to(InodeId from, const std::string& name, InodeId to, const std::string& new_name,
                 uint32_t flags = 0) {
    pb::RenameRequest request;
    request.set_parent(from);
    request.set_name(name);
    request.set_new_parent(to);
    request.set_new_name(new_name);
    request.set_flags(flags);
    const auto done = apply([&](Transaction& txn) { return rename(txn, request); });
    ASSERT_TRUE(done) << done.error().message();
  }
  void rename_in_place(const std::string& name, const std::string& free_name) {
    const InodeId ino = names_[name];
    rename_to(directory_, name, directory_, free_name);
    for (auto& listing : listings_) {
      const auto it = listing->faithful.find(ino);
      if (it != listing->faithful.end()) it->second.insert(free_name);
    }
    changed(name, 0);
    changed(free_name, ino);
  }
  void remove(const std::string& name) {
    pb::UnlinkRequest request;
    request.set_parent(directory_);
    request.set_name(name);
    ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
    unfaithful(names_[name]);
    changed(name, 0);
  }
  void create_one() {
    const std::string name = fresh();
    ASSERT_TRUE(apply([&](Transaction& txn) { return add(txn, name); }));
    changed(name, names_[name]);
  }
  void rename_over(const std::string& name, const std::string& other) {
    const InodeId ino = names_[name];
    unfaithful(ino);
    unfaithful(names_[other]);
    rename_to(directory_, name, directory_, other);
    changed(name, 0);
    changed(other, ino);
  }
  void exchange(const std::string& name, const std::string& other) {
    const InodeId ino = names_[name], other_ino = names_[other];
    unfaithful(ino);
    unfaithful(other_ino);
    rename_to(directory_, name, directory_, other, 2);
    changed(name, other_ino);
    changed(other, ino);
  }
  void move_out_and_back(const std::string& name) {
    const InodeId ino = names_[name];
    unfaithful(ino);
    rename_to(directory_, name, elsewhere_, name);
    rename_to(elsewhere_, name, directory_, name);
    changed(name, 0);
    changed(name, ino);
  }

  void change() {
    if (names_.size() < 4) return create_one();
    const std::string name = pick(), other = pick();
    switch (random_() % 9) {
      case 0:
        return create_one();
      case 1:
        return remove(name);
      case 2:
        return rename_in_place(name, fresh());
      case 3:
      case 4: {  // to a temporary name and back, sometimes left there for a while
        if (names_.contains("temporary")) rename_in_place("temporary", fresh());
        if (name == "temporary") return;
        rename_in_place(name, "temporary");
        if (random_() % 2) rename_in_place("temporary", name);
        return;
      }
      case 5:
      case 6:
        if (name != other) rename_over(name, other);
        return;
      case 7:
        if (name != other) exchange(name, other);
        return;
      default:
        return move_out_and_back(name);
    }
  }

  InodeId directory_ = 0, elsewhere_ = 0;
  InodeId next_ino_ = 100;
  uint64_t next_name_ = 0, page_max_ = 20;
  Names names_;
  std::vector<std::unique_ptr<Listing>> listings_;
  std::mt19937_64 random_{test_seed()};
};

TEST_F(DirectoryListingTest, EndsAndReturnsEachNameThatStaysOnce) {
  fill(300);
  for (int round = 0; round < 25; ++round) {
    listings_.clear();
    begin();
    begin();
    for (int step = 0;; ++step) {
      for (auto& listing : listings_) {
        if (!listing->ended && random_() % 2) read_some(*listing);
      }
      const uint64_t changes = random_() % 12;
      for (uint64_t i = 0; i < changes; ++i) change();
      ASSERT_FALSE(HasFailure()) << "round " << round;
      if (step % 64 == 63) open();
      if (std::all_of(listings_.begin(), listings_.end(), [](auto& l) { return l->ended; })) break;
      ASSERT_LT(step, 3000) << "a listing does not end";
    }
    for (const auto& listing : listings_) judge(*listing);
    ASSERT_FALSE(HasFailure()) << "round " << round;
    while (names_.size() < 250) create_one();
  }
}

// Every file is renamed to a temporary name and back as soon as it has been returned, new files
// come and go at the end: without a bound, neither of these ends.
TEST_F(DirectoryListingTest, ALargeDirectoryEndsWhileItIsRenamed) {
  constexpr int kFiles = 100'000;
  fill(kFiles);
  page_max_ = 2048;
  Listing& listing = begin();
  size_t renamed = 0;
  for (int step = 0; !listing.ended; ++step) {
    read_some(listing);
    ASSERT_FALSE(HasFailure());
    ASSERT_LT(step, 5000) << "the listing does not end";
    for (; renamed < listing.told.size(); renamed += 37) {
      const std::string name = listing.told[renamed].second;
      rename_in_place(name, "temporary");
      rename_in_place("temporary", name);
    }
    for (int i = 0; i < 20; ++i) {
      create_one();
      remove("new" + std::to_string(next_name_ - 1));
      rename_in_place(pick(), fresh());
    }
  }
  judge(listing);
}

TEST_F(DirectoryListingTest, PositionsStayGoodForSeekdir) {
  fill(500);
  Listing& listing = begin();
  while (!listing.ended && listing.told.size() < 400) {
    read_some(listing);
    change();
  }
  const auto told = listing.told;
  for (int round = 0; round < 200; ++round) {
    change();
    const size_t at = random_() % (told.size() - 1);
    listing.cookie = told[at].first;
    listing.told.clear();
    page_max_ = 1;
    while (!HasFailure() && !listing.ended && listing.cookie < told[at + 1].first) {
      read_some(listing);
    }
    ASSERT_FALSE(HasFailure());
    // What followed follows again, unless it has got another name or gone.
    if (!listing.staying.contains(told[at + 1].second)) continue;
    ASSERT_FALSE(listing.told.empty());
    EXPECT_EQ(listing.told.back(), told[at + 1]);
  }
}

TEST_F(DirectoryListingTest, RewoundItShowsWhatWasAddedMeanwhile) {
  fill(3);
  page_max_ = 1;
  const auto read_all = [&](Listing& listing) {
    while (!HasFailure() && !listing.ended) read_some(listing);
    return std::set<std::string>(listing.seen.begin(), listing.seen.end());
  };
  Listing& first = begin();
  read_some(first);
  create_one();
  EXPECT_EQ(read_all(first), (std::set<std::string>{"file0", "file1", "file2"}));
  EXPECT_EQ(read_all(begin()), (std::set<std::string>{"file0", "file1", "file2", "new0"}));
}

}  // namespace
}  // namespace datacloud
