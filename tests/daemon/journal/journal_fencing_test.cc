// Writers in processes of their own, stopped (SIGSTOP) before each call they make of a directory,
// while another leader claims, appends and trims; and writes that land after they were given up.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "daemon/journal/directory_log.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/temporary_directory.h"

namespace datacloud::journal {
namespace {

// Stops the process before its Nth call of the file system.
class StoppingFiles final : public FileLayer {
 public:
  explicit StoppingFiles(int stop_at) : left_(stop_at) {}

  void step() {
    if (--left_ == 0) ::raise(SIGSTOP);
  }

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    step();
    TRY(auto file, inner_->open(path, how));
    return std::unique_ptr<File>(new StoppingFile(*this, std::move(file)));
  }
  result<Stat> stat(const std::string& path) override { return inner_->stat(path); }
  result<void> make_directory(const std::string& path) override {
    return inner_->make_directory(path);
  }
  result<void> remove_directory(const std::string& path) override {
    return inner_->remove_directory(path);
  }
  result<void> unlink(const std::string& path) override {
    step();
    return inner_->unlink(path);
  }
  result<void> rename(const std::string& from, const std::string& to) override {
    return inner_->rename(from, to);
  }
  result<void> link(const std::string& from, const std::string& to) override {
    step();
    return inner_->link(from, to);
  }
  result<void> sync_directory(const std::string& path) override {
    step();
    return inner_->sync_directory(path);
  }
  result<std::vector<std::string>> list(const std::string& path) override {
    step();
    return inner_->list(path);
  }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return inner_->lock(path, held);
  }
  result<Space> space(const std::string& path) override { return inner_->space(path); }

 private:
  class StoppingFile final : public File {
   public:
    StoppingFile(StoppingFiles& files, std::unique_ptr<File> inner)
        : files_(files), inner_(std::move(inner)) {}
    result<void> append(ByteView data) override {
      files_.step();
      return inner_->append(data);
    }
    result<void> write_at(uint64_t offset, ByteView data) override {
      files_.step();
      return inner_->write_at(offset, data);
    }
    result<size_t> pread(uint64_t offset, MutableByteView out) override {
      files_.step();
      return inner_->pread(offset, out);
    }
    result<void> sync() override {
      files_.step();
      return inner_->sync();
    }
    result<uint64_t> size() override { return inner_->size(); }

   private:
    StoppingFiles& files_;
    const std::unique_ptr<File> inner_;
  };

  const std::shared_ptr<FileLayer> inner_ = make_posix_file_layer();
  std::atomic<int> left_;
};

constexpr Epoch kSleeper{2, 22};

// What the sleeper does; the number of appends that were acknowledged to it, or what it saw.
enum Seen { kNotClaimed = 100, kNotBegun = 101 };
int sleep_and_write(DirectoryLogOptions options, int stop_at) {
  options.files = std::make_shared<StoppingFiles>(stop_at);
  auto store = make_directory_log(options);
  if (!store->claim(kSleeper)) return kNotClaimed;
  Leader leader(*store, kSleeper);
  if (!leader.lead()) return kNotBegun;
  int appended = 0;
  while (appended < 3 && leader.append(1, appended == 1 ? 9000 : 100)) ++appended;
  return appended;
}

class JournalFencing : public testing::TestWithParam<bool> {};

TEST_P(JournalFencing, AProcessStoppedAtAnyStepLosesNothingAndBreaksNothing) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  GTEST_SKIP() << "its runtime lets no forked process start threads; the other builds run this";
#endif
#endif
  const bool trims = GetParam();
  int stopped = 0;
  for (int stop_at = 1;; ++stop_at) {
    TemporaryDirectory directory(TemporaryDirectory::fast_parent());
    DirectoryLogOptions options;
    options.directory = directory.path();
    options.journal = test_journal();
    options.segment_bytes = 16 << 10;
    ASSERT_OK(format_directory_log(options));
    LogPosition first;
    {
      auto store = make_directory_log(options);
      Leader leader(*store, {1, 1});
      ASSERT_OK(leader.lead());
      ASSERT_OK(leader.append(2, 5000));
      first = leader.last();
    }
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(sleep_and_write(options, stop_at));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
    if (!WIFSTOPPED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 3) << "nothing hinders it";
      break;
    }
    ++stopped;
    SCOPED_TRACE("stopped before call " + std::to_string(stop_at));
    // Two leaderships pass meanwhile; with trims, every file the sleeper knows is collected.
    LogPosition adopted, last;
    for (const uint64_t number : {3u, 4u}) {
      auto store = make_directory_log(options);
      Leader leader(*store, {number, number});
      ASSERT_OK(leader.lead());
      if (number == 3) {
        adopted = leader.last();
        EXPECT_GE(adopted.sequence, first.sequence);
      }
      ASSERT_OK(leader.append(2, 6000));
      ASSERT_OK(leader.append(1, 100));
      if (trims) ASSERT_OK(store->trim({number, number}, leader.last().sequence));
      last = leader.last();
    }
    ASSERT_EQ(::kill(child, SIGCONT), 0);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    const int seen = WEXITSTATUS(status);
    // What was acknowledged to the sleeper, before it slept or after, was adopted.
    if (seen < kNotClaimed) {
      EXPECT_LE(first.sequence + static_cast<uint64_t>(seen), adopted.sequence);
    }
    auto store = make_directory_log(options);
    const auto head = store->head();
    ASSERT_TRUE(head) << head.error().message();
    EXPECT_EQ(head.value().last, last);
    EXPECT_EQ(head.value().promised, (Epoch{4, 4}));
    const auto rest = read_from(*store, head.value().floor);
    ASSERT_FALSE(rest.empty());
    EXPECT_EQ(rest.back().position(), last);
    Leader next(*store, {5, 5});
    ASSERT_OK(next.lead());
    ASSERT_OK(next.append(2, 6000));
    ASSERT_OK(store->trim({5, 5}, next.last().sequence));
    EXPECT_EQ(read_from(*store, next.last().sequence).size(), 1u);
    if (HasFailure()) break;
  }
  EXPECT_GT(stopped, 40) << "a claim, a begin and appends have so many steps";
}

INSTANTIATE_TEST_SUITE_P(, JournalFencing, testing::Bool(),
                         [](const auto& info) { return info.param ? "with_trims" : "without"; });

// A write that the file system reports as failed and does later.
class LateFiles final : public FileLayer {
 public:
  bool hold_next_write = false;
  void land() {
    for (const auto& [path, offset, data] : held_) {
      auto file = inner_->open(path, Open::write_through);
      if (file) (void)file.value()->write_at(offset, data);
    }
    held_.clear();
  }

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    TRY(auto file, inner_->open(path, how));
    return std::unique_ptr<File>(new LateFile(*this, path, std::move(file)));
  }
  result<Stat> stat(const std::string& path) override { return inner_->stat(path); }
  result<void> make_directory(const std::string& p) override { return inner_->make_directory(p); }
  result<void> remove_directory(const std::string& p) override {
    return inner_->remove_directory(p);
  }
  result<void> unlink(const std::string& path) override { return inner_->unlink(path); }
  result<void> rename(const std::string& from, const std::string& to) override {
    return inner_->rename(from, to);
  }
  result<void> link(const std::string& from, const std::string& to) override {
    return inner_->link(from, to);
  }
  result<void> sync_directory(const std::string& p) override { return inner_->sync_directory(p); }
  result<std::vector<std::string>> list(const std::string& p) override { return inner_->list(p); }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return inner_->lock(path, held);
  }
  result<Space> space(const std::string& path) override { return inner_->space(path); }

 private:
  class LateFile final : public File {
   public:
    LateFile(LateFiles& files, std::string path, std::unique_ptr<File> inner)
        : files_(files), path_(std::move(path)), inner_(std::move(inner)) {}
    result<void> append(ByteView data) override { return inner_->append(data); }
    result<void> write_at(uint64_t offset, ByteView data) override {
      if (!files_.hold_next_write) return inner_->write_at(offset, data);
      files_.hold_next_write = false;
      files_.held_.push_back({path_, offset, to_bytes(data)});
      return failure(Error::posix(EIO, "injected"));
    }
    result<size_t> pread(uint64_t o, MutableByteView out) override { return inner_->pread(o, out); }
    result<void> sync() override { return inner_->sync(); }
    result<uint64_t> size() override { return inner_->size(); }

   private:
    LateFiles& files_;
    const std::string path_;
    const std::unique_ptr<File> inner_;
  };
  struct Held {
    std::string path;
    uint64_t offset;
    Bytes data;
  };

  const std::shared_ptr<FileLayer> inner_ = make_posix_file_layer();
  std::vector<Held> held_;
};

// The batch [3, 4] is given up, then [3] and [4, 5] are sent: the late bytes must not stand in for
// either, wherever they land.
TEST(JournalLateWrites, LandBehindWhatIsValid) {
  for (const bool before_the_next : {false, true}) {
    TemporaryDirectory directory(TemporaryDirectory::fast_parent());
    const auto files = std::make_shared<LateFiles>();
    DirectoryLogOptions options;
    options.directory = directory.path();
    options.journal = test_journal();
    options.segment_bytes = 32 << 10;
    options.files = files;
    ASSERT_OK(format_directory_log(options));
    auto store = make_directory_log(options);
    const Epoch epoch{1, 1};
    Leader leader(*store, epoch);
    ASSERT_OK(leader.lead());
    ASSERT_OK(leader.append(2));
    const auto entries = entries_after(leader.last(), epoch, 3);
    const auto batch = [&](size_t from, size_t to) {
      return LogBatch::of({entries.begin() + static_cast<std::ptrdiff_t>(from),
                           entries.begin() + static_cast<std::ptrdiff_t>(to)})
          .value();
    };
    files->hold_next_write = true;
    EXPECT_FALSE(append_now(*store, epoch, batch(0, 2)));
    EXPECT_REFUSED(Errc::stale, append_now(*store, epoch, batch(0, 2)));  // settle first
    EXPECT_EQ(store->settle(epoch).value().last, leader.last());
    if (before_the_next) files->land();  // after settle has looked
    ASSERT_OK(append_now(*store, epoch, batch(0, 1)));
    files->land();
    ASSERT_OK(append_now(*store, epoch, batch(1, 3)));
    const auto all = read_from(*make_directory_log(options), 1);
    ASSERT_EQ(all.size(), 5u);
    EXPECT_EQ(all.back().hash, entries[2].hash);
  }
}

}  // namespace
}  // namespace datacloud::journal
