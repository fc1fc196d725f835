// How much of files' bytes the records hold, whether there is room for more
// (daemon.inline_bytes_max), and whether more may come in now (daemon.inline_bytes_per_second_max:
// each byte goes to every site of the journal, and may take only a little of what these can take).
//
// Invariant: used() is never below what there is, so the bound holds whatever crashes. What comes
// in is added up, also when its commit fails afterwards; what goes again (overwritten, removed,
// moved into stripes) is only seen by counting the records, in small steps between requests. That
// is done at the start, when nothing is let in until it is known what there is; when a quarter of
// the bound came in since; and when there seems to be no room; at most once in kCountPause. So less
// may be let in for a while than there is room for.
//
// Functions of the loop.
#pragma once

#include <memory>
#include <string>

#include "daemon/loop/event_loop.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class InlineRoom {
 public:
  struct Limits {
    uint64_t bytes_max = 0;
    uint64_t bytes_per_second_max = 0;  // 0: no limit
  };
  // `loop` outlives the store; what it runs after this object's end does nothing.
  InlineRoom(MetadataStore& store, EventLoop& loop, Limits limits)
      : store_(store), loop_(loop), limits_(limits) {}

  // Begins the first count. Once, before takes().
  void start() { begin_count(); }
  // Whether a commit may bring so many bytes, which are then counted. Begins a count when due.
  bool takes(uint64_t bytes);
  // They come in whatever room there is: they were there before a power cut.
  void add(uint64_t bytes);
  uint64_t used() const { return used_; }  // at least what there is, once counted
  bool counted() const { return ever_counted_; }

 private:
  void count_if_due(bool no_room);
  bool in_time(uint64_t bytes);
  void begin_count();
  void count_step();

  MetadataStore& store_;
  EventLoop& loop_;
  const Limits limits_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  uint64_t used_ = 0;
  uint64_t counted_ = 0;  // by the count under way
  uint64_t since_ = 0;    // let in since the latest count began
  bool counting_ = false, ever_counted_ = false;
  MonotonicTime counted_at_{};
  MonotonicTime free_at_{};  // when what was let in has had its time at the rate
  std::string position_;
};

}  // namespace datacloud
