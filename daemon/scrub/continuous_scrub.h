// The continuous scrub: a walk through every site's objects in each cycle, from a cursor that
// survives the daemon. It deletes what nobody names, by the rule of the listing scrub, counts what
// is foreign, and when a site is listed to its end it looks up what the records expect there and
// notes what is missing for repair.
//
// Runs on the loop; one page, or one looking up, at a time is a job of the background threads,
// within the sites' budgets. A walk takes about half a cycle, however few objects there are, and
// then rests as long. Sites that are away are passed over and
// those that fail are asked again later, from the cursor.
//
// Nothing is deleted before what made it garbage is durable. Objects whose record cannot be read
// are kept: fsck is for them.
//
// Persisted: a ScrubWalk per site, and the names it has listed (listed_names.h), made durable in
// this order. What was listed after the last save is listed again.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "common/proto/records.pb.h"
#include "daemon/jobs/background_context.h"
#include "daemon/scrub/missing_shard_finder.h"
#include "daemon/sessions/id_ranges.h"

namespace datacloud {

class ContinuousScrub {
 public:
  struct Options {
    Duration cycle = Duration::zero();                               // zero: never
    std::filesystem::path directory;                                 // of the names' files
    size_t page = 1024;                                              // names listed at once
    Duration tick = milliseconds(100);                               // a page at most
    Duration pause_min = milliseconds(20), pause_max = seconds(60);  // between a site's pages
    Duration save = seconds(5);  // how much is listed again after a crash
    MissingShardFinder::Options looking_up = {.rest = milliseconds(10)};
  };

  // `found` runs on the loop when something missing was noted.
  ContinuousScrub(BackgroundContext&, const IdRanges&, std::shared_ptr<EventLoop>, Options,
                  std::function<void()> found);

  result<void> open(const Transaction&);

  // On the loop. Of sites that were ever walked.
  const std::map<SiteId, pb::ScrubWalk>& walks() const { return walks_; }
  // Share of the walk under way that is listed, 0 to 1; nullopt between walks.
  std::optional<double> listed_share(SiteId) const;
  struct Counts {
    uint64_t objects = 0, bytes = 0;  // garbage deleted since the start
  };
  Counts counts() const { return {deleted_objects_, deleted_bytes_}; }

 private:
  struct State {  // of a site, beside its walk
    MonotonicTime next_at{};
    MonotonicTime saved{};
    std::unique_ptr<ListedNames> names;  // open while a walk is under way
  };
  struct Job;
  struct PageJudged {
    std::vector<std::string> garbage;
    uint64_t unknown = 0;
  };
  void tick();
  Site* next_site();
  void begin(Site&);
  // In the job:
  result<void> run(Site&, Job&);
  result<void> begin_walk(Site&, Job&);
  result<void> list_page(Site&, Job&);
  result<PageJudged> judge(const std::vector<std::string>& names);
  result<uint64_t> remove(Site&, const std::vector<std::string>& garbage);
  result<void> look_up(Site&, Job&);
  // On the loop again:
  void finished(Site&, Job&, const result<void>&);
  void save(const pb::ScrubWalk&);
  Duration pause_after(const pb::ScrubWalk&) const;
  uint64_t objects_expected() const;
  std::string names_path(SiteId) const;

  BackgroundContext& context_;
  const IdRanges& ranges_;
  std::shared_ptr<EventLoop> loop_;
  const Options options_;
  const std::function<void()> found_;
  std::map<SiteId, pb::ScrubWalk> walks_;
  std::map<SiteId, State> states_;
  bool busy_ = false;
  std::atomic<uint64_t> deleted_objects_{0}, deleted_bytes_{0};
};

}  // namespace datacloud
