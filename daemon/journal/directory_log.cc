// The journal in a directory (directory_log.h): what a leader does, on the store's one thread.
//
// Invariants: a segment is appended to by the claim it is named by, at one place, once: after a
// failure the log goes on in the next segment. A site is counted only after its claim was read
// again behind the write.
#include "daemon/journal/directory_log.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "daemon/journal/directory_claims.h"
#include "daemon/journal/directory_segments.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/read_marks.h"

namespace datacloud::journal {
namespace {

constexpr int kRereads = 8;  // of a log that changes while it is read

class DirectoryLog final : public LogStore {
 public:
  explicit DirectoryLog(DirectoryLogOptions options)
      : options_(std::move(options)),
        claims_(options_.files, options_.directory),
        segments_(options_.files, options_.directory),
        thread_([this] { work(); }) {}

  ~DirectoryLog() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  result<LogHead> head() override { return read_head(&marks_); }

  result<LogHead> claim(const Epoch& epoch) override {
    return run<LogHead>([this, epoch]() -> result<LogHead> {
      if (epoch.number == 0 || epoch.number > kEpochNumberMax) {
        return failure(Errc::invalid, "not the number of an epoch");
      }
      TRY(const auto file, claims_.make(options_.journal, epoch, false));
      if (!leader_ || leader_->claim.epoch != epoch) {
        leader_ = Leader();
        leader_->claim = file.claim;
      }
      return read_head();
    });
  }

  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    return run<void>([this, epoch, base, where]() -> result<void> {
      TRY(require_leader(epoch));
      if (base.epoch > epoch) return failure(Errc::invalid, "the base is of a later epoch");
      SegmentHeader header;
      header.base = base;
      // Behind a checkpoint nothing of the log is kept, and it may be damaged anywhere.
      const uint64_t from = where == Base::checkpoint ? UINT64_MAX : base.sequence;
      auto found = segments_.chain(options_.journal, from);
      if (!found && where != Base::checkpoint) return failure(found.error());
      const auto chain = found ? std::move(found).value() : std::vector<DirectorySegment>();
      header.ordinal = leader_->header.ordinal + (leader_->name.empty() ? 0 : 1);
      if (!chain.empty()) header.ordinal = chain.front().header.ordinal + 1;
      if (where == Base::checkpoint) {
        TRY(claims_.raise_floor(leader_->claim, base.sequence + 1));
      } else {
        TRY(find_base(chain, base, header));
      }
      return go_on(std::move(header));
    });
  }

  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    if (appends_.fetch_add(1) >= kAppendsMax) {
      --appends_;
      return done(failure(Errc::invalid, at("more than 64 appends under way")));
    }
    post([this, epoch, batch = std::move(batch), done = std::move(done)] {
      auto answer = append_here(epoch, batch);
      --appends_;
      done(std::move(answer));
    });
  }

  result<LogHead> settle(const Epoch& epoch) override {
    return run<LogHead>([this, epoch]() -> result<LogHead> {
      TRY(require_leader(epoch));
      TRY(auto head, read_head());
      if (head.begun != epoch) {
        return failure(Errc::stale, options_.directory + ": the epoch has not begun here");
      }
      TRY(const auto chain, segments_.chain(options_.journal, head.last.sequence));
      leader_->name = chain.front().name;
      leader_->header = chain.front().header;
      TRY(const auto end, segments_.scan(chain.front(), [](LogEntry) { return true; }));
      leader_->last = end.last;
      leader_->used = end.bytes;
      leader_->must_roll = true;
      leader_->failed = false;
      head.last = end.last;
      return head;
    });
  }

  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    return repeat<std::vector<LogEntry>>(
        [&] { return read_once(std::max<uint64_t>(from, 1), bytes_max); });
  }

  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    return run<void>([this, epoch, floor]() -> result<void> {
      TRY(require_leader(epoch));
      TRY(claims_.raise_floor(leader_->claim, floor));
      TRY(remove_below(floor));
      return claims_.collect(leader_->claim);
    });
  }

  result<void> seal(const Epoch& epoch) override {
    return run<void>([this, epoch]() -> result<void> {
      if (leader_ && leader_->claim.epoch == epoch) leader_->failed = true;
      TRY(claims_.make(options_.journal, epoch, true));
      return success();
    });
  }

 private:
  struct Leader {
    Claim claim;
    std::string name;  // of the segment appended to; empty: none yet
    SegmentHeader header;
    LogPosition last;
    uint64_t used = 0;     // bytes behind the header
    uint64_t numbers = 0;  // segments tried so far
    bool failed = true;    // appends are refused: not begun, or to be settled
    bool must_roll = false;
  };

  std::string at(const std::string& text) const { return options_.directory + ": " + text; }

  result<void> require_leader(const Epoch& epoch) {
    if (!leader_ || leader_->claim.epoch != epoch) {
      return failure(Errc::stale, at("epoch " + epoch_text(epoch) + " has not claimed here"));
    }
    TRY(claims_.confirm(leader_->claim));
    return success();
  }

  // Where `base` is in the log, for the header of the segment that goes on behind it.
  result<void> find_base(const std::vector<DirectorySegment>& chain, const LogPosition& base,
                         SegmentHeader& header) {
    for (const auto& segment : chain) {
      if (segment.header.base.sequence > base.sequence) continue;
      uint64_t bytes = 0;
      LogPosition found = segment.header.base;
      if (found.sequence < base.sequence) {
        TRY(const auto end, segments_.scan(segment, [&](LogEntry entry) {
          return entry.header.sequence < base.sequence;
        }));
        bytes = end.bytes;
        found = end.last;
      }
      if (found != base) break;
      header.previous = segment.name;
      header.previous_bytes = bytes;
      return success();
    }
    if (chain.empty() && base == LogPosition()) return success();
    return failure(Errc::invalid, at("entry " + std::to_string(base.sequence) +
                                     " is not in the log, or is another one there"));
  }

  // Makes the next segment of this leader and appends there from now on.
  result<void> go_on(SegmentHeader header) {
    header.journal = options_.journal;
    header.epoch = leader_->claim.epoch;
    header.unit = kWriteThroughBytes;
    leader_->failed = true;
    file_.reset();
    if (leader_->numbers == 0) {  // another process of this epoch may have made some
      TRY(const auto names, segments_.names());
      for (const auto& name : names) {
        if (name.claim == leader_->claim.index) {
          leader_->numbers = std::max(leader_->numbers, name.number + 1);
        }
      }
    }
    const std::string name = DirectorySegments::name_of(leader_->claim.index, leader_->numbers++);
    TRY(segments_.make(name, header, DirectorySegments::kEntriesOffset + options_.segment_bytes));
    TRY(file_, options_.files->open(segments_.path(name), FileLayer::Open::write_through));
    TRY(claims_.confirm(leader_->claim));
    leader_->name = name;
    leader_->last = header.base;
    leader_->header = std::move(header);
    leader_->used = 0;
    leader_->failed = leader_->must_roll = false;
    return success();
  }

  result<void> append_here(const Epoch& epoch, const LogBatch& batch) {
    if (!leader_ || leader_->claim.epoch != epoch) {
      return failure(Errc::stale, at("epoch " + epoch_text(epoch) + " has not claimed here"));
    }
    if (leader_->failed) return failure(Errc::stale, at("an append failed; settle it first"));
    if (batch.empty() || batch.journal() != options_.journal || batch.last().epoch > epoch) {
      return failure(Errc::invalid, at("not a batch of this journal and epoch"));
    }
    if (batch.first() != leader_->last.sequence + 1 || batch.previous() != leader_->last.hash) {
      return failure(Errc::stale, at("the log ends at " + std::to_string(leader_->last.sequence) +
                                     ", the append begins at " + std::to_string(batch.first())));
    }
    auto written = write(batch);
    if (!written && !written.error().is(Errc::invalid)) leader_->failed = true;
    if (!written) return written;
    leader_->last = batch.last();
    return success();
  }

  result<void> write(const LogBatch& batch) {
    const Bytes& entries = *batch.bytes();
    const size_t padded = round_up(entries.size(), kWriteThroughBytes);
    Bytes bytes;
    bytes.reserve(padded);
    bytes.assign(entries.begin(), entries.end());
    bytes.resize(padded, 0);
    if (bytes.size() > options_.segment_bytes) {
      return failure(Errc::invalid, at("an append larger than a segment"));
    }
    if (leader_->must_roll || leader_->used + bytes.size() > options_.segment_bytes) {
      SegmentHeader header;
      header.ordinal = leader_->header.ordinal + 1;
      header.base = leader_->last;
      header.previous = leader_->name;
      header.previous_bytes = leader_->used;
      TRY(go_on(std::move(header)));
    }
    TRY(file_->write_at(DirectorySegments::kEntriesOffset + leader_->used, bytes));
    TRY(claims_.confirm(leader_->claim));
    leader_->used += bytes.size();
    return success();
  }

  // Segments whose entries are all below the floor, and those of earlier claims that nobody points
  // to. The oldest first, so that an interrupted trim leaves a log without a gap.
  result<void> remove_below(uint64_t floor) {
    TRY(const auto chain, segments_.chain(options_.journal, 0));
    TRY(const auto names, segments_.names());
    std::vector<std::string> keep;
    for (size_t i = 0; i < chain.size(); ++i) {
      if (i == 0 || chain[i - 1].header.base.sequence + 1 > floor) keep.push_back(chain[i].name);
    }
    const bool mine = !chain.empty() && chain.front().claim == leader_->claim.index;
    for (auto it = names.rbegin(); it != names.rend(); ++it) {
      if (std::find(keep.begin(), keep.end(), it->name) != keep.end()) continue;
      const bool in_chain = std::any_of(chain.begin(), chain.end(),
                                        [&](const auto& s) { return s.name == it->name; });
      const bool older = mine && std::pair(it->claim, it->number) <
                                     std::pair(chain.front().claim, chain.front().number);
      if (!in_chain && !older) continue;
      TRY(options_.files->unlink(segments_.path(it->name)));
    }
    return success();
  }

  // With marks what was read before is not read again; who claims or settles reads all of it.
  result<LogHead> read_head(ReadMarks* marks = nullptr) {
    return repeat<LogHead>([this, marks]() -> result<LogHead> {
      TRY(const auto claim, claims_.last());
      if (claim.claim.journal != options_.journal) {
        return failure(Errc::away, at("another cloud's journal"));
      }
      LogHead head;
      head.journal = options_.journal;
      head.promised = claim.claim.epoch;
      head.floor = claim.floor;
      head.sealed = claim.claim.seals;
      TRY(const auto chain, segments_.chain(options_.journal, UINT64_MAX));
      if (chain.empty()) return head;
      const auto& newest = chain.front();
      const auto mark = marks != nullptr ? marks->before(newest.name, UINT64_MAX, newest.limit)
                                         : std::optional<ReadMarks::Mark>();
      TRY(const auto end, segments_.scan(
                              newest, [](LogEntry) { return true; }, mark));
      if (marks != nullptr) marks->note(newest.name, mark, {end.last, end.bytes});
      head.begun = newest.header.epoch;
      head.last = end.last;
      return head;
    });
  }

  result<std::vector<LogEntry>> read_once(uint64_t from, size_t bytes_max) {
    TRY(const auto claim, claims_.last());
    if (from < claim.floor) {
      return failure(Errc::not_found, at("entries below " + std::to_string(claim.floor) +
                                         " were trimmed; a checkpoint has them"));
    }
    TRY(auto chain, segments_.chain(options_.journal, from));
    std::vector<LogEntry> out;
    size_t bytes = 0;
    bool full = false;
    uint64_t next = from;
    std::reverse(chain.begin(), chain.end());
    if (!chain.empty() && chain.front().header.base.sequence >= from) {
      return failure(Errc::corrupt, at("entry " + std::to_string(from) + " is missing"));
    }
    for (size_t i = 0; i < chain.size() && !full; ++i) {
      const auto mark = marks_.before(chain[i].name, next, chain[i].limit);
      const auto sink = [&](LogEntry entry) {
        if (entry.header.sequence < next) return true;
        if (!out.empty() && bytes + entry.bytes->size() > std::min(bytes_max, kReadBytesMax)) {
          full = true;
          return false;
        }
        bytes += entry.bytes->size();
        ++next;
        out.push_back(std::move(entry));
        return true;
      };
      TRY(const auto end, segments_.scan(chain[i], sink, mark));
      if (!full) marks_.note(chain[i].name, mark, {end.last, end.bytes});
      const bool whole = i + 1 == chain.size() || full || end.last == chain[i + 1].header.base;
      if (!whole) {
        return failure(Errc::corrupt, at(chain[i].name + " is damaged behind entry " +
                                         std::to_string(end.last.sequence)));
      }
    }
    return out;
  }

  // While it is read, a leader may go on to the next segment and delete old ones.
  template <class T, class Read>
  static result<T> repeat(Read read) {
    for (int i = 1;; ++i) {
      auto got = read();
      const bool again =
          !got && got.error().code() == std::error_code(ENOENT, std::generic_category());
      if (!again || i == kRereads) return got;
    }
  }

  void post(std::function<void()> job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

  template <class T, class Job>
  result<T> run(Job job) {
    std::mutex mutex;
    std::condition_variable ready;
    std::optional<result<T>> answer;
    post([&] {
      auto got = job();
      std::lock_guard lock(mutex);
      answer.emplace(std::move(got));
      ready.notify_one();
    });
    std::unique_lock lock(mutex);
    ready.wait(lock, [&] { return answer.has_value(); });
    return std::move(*answer);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;  // what was accepted is answered first
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }

  const DirectoryLogOptions options_;
  DirectoryClaims claims_;
  DirectorySegments segments_;
  ReadMarks marks_;
  // The thread's own.
  std::optional<Leader> leader_;
  std::unique_ptr<File> file_;  // leader_->name, open for writing

  std::atomic<size_t> appends_{0};  // accepted and not answered
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

result<void> format_directory_log(const DirectoryLogOptions& options) {
  DirectoryClaims claims(options.files, options.directory);
  return claims.format(options.journal);
}

std::unique_ptr<LogStore> make_directory_log(DirectoryLogOptions options) {
  return std::make_unique<DirectoryLog>(std::move(options));
}

}  // namespace datacloud::journal
