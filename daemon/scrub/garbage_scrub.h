// Finds and deletes garbage no record knows of: objects of revoked ids that landed at a site
// without ever being committed.
//
// Due (per site, persisted) after a session ended with uncommitted ids. Lists first, looks up
// after: an object is deleted iff its instance id was granted once, lies in no live range, and no
// stripe record names (stripe, column, instance). Since ids are revoked durably before, nothing
// deleted here can be named later. Objects whose ids were never granted are foreign: counted,
// never touched.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "common/site/site_set.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/sessions/id_ranges.h"

namespace datacloud {

// What a listed object is to the records: `unknown`, when nobody was ever granted its name.
enum class ListedObject { wanted, garbage, unknown };
result<ListedObject> judge_listed(const Transaction&, const ShardNamer&, const IdRanges&,
                                  const std::string& object);
// Deletes garbage. Answers once, on any thread, with the bytes the object had; an error when it is
// still there.
void remove_listed(Site&, const std::string& object, std::function<void(result<uint64_t>)>);

class GarbageScrub {
 public:
  struct Counts {
    uint64_t objects = 0;
    uint64_t bytes = 0;
  };

  GarbageScrub(MetadataStore&, Committer&, SiteSet&, const ShardNamer&, const IdRanges&,
               std::shared_ptr<EventLoop>);

  result<void> open(const Transaction&);
  // Makes every site due, within the transaction that revokes the ids.
  void make_due(Transaction&);
  // Starts (once all revocations so far are durable).
  void kick();
  // No live site is due, besides those whose listing failed since the last kick.
  bool idle() const { return !running_; }
  const Counts& counts() const { return counts_; }
  uint64_t unknown_objects() const;

 private:
  struct Due {
    uint64_t wanted = 0;  // counts make_due(); 0: not due
    bool failed = false;  // its listing failed since the last kick
  };
  struct Page;

  void next_site();
  void list_page(Site*, std::string from);
  void classify(Site*, std::shared_ptr<Page>);
  void remove_garbage(Site*, const std::shared_ptr<Page>&);
  void page_done(Site*, const std::shared_ptr<Page>&);
  void site_done(Site*, const Error* failure);

  MetadataStore& store_;
  Committer& committer_;
  SiteSet& sites_;
  const ShardNamer& namer_;
  const IdRanges& ranges_;
  std::shared_ptr<EventLoop> loop_;
  Counts counts_;
  std::map<SiteId, Due> due_;
  std::map<SiteId, uint64_t> unknown_;  // of the last complete listing
  uint64_t unknown_here_ = 0;
  uint64_t wanted_here_ = 0;
  bool running_ = false;
};

}  // namespace datacloud
