// How much of files' bytes the records hold, and whether there is room for more
// (daemon.inline_bytes_max).
//
// What comes in is added up; what goes again (overwritten, removed, written into stripes) is only
// seen by counting the records, in small steps between requests. That is done at the first question
// and whenever there seems to be no room, at most once in kCountPause. So a little more than the
// bound may be there while the first count goes on, and less may be let in than there is room for.
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
  // `loop` outlives the store; what it runs after this object's end does nothing.
  InlineRoom(MetadataStore& store, EventLoop& loop, uint64_t bytes_max)
      : store_(store), loop_(loop), bytes_max_(bytes_max) {}

  // Whether a commit may bring so many bytes, which are then counted. Begins a count when due.
  bool takes(uint64_t bytes);
  uint64_t used() const { return used_; }  // at least what there is, once counted

 private:
  void begin_count();
  void count_step();

  MetadataStore& store_;
  EventLoop& loop_;
  const uint64_t bytes_max_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  uint64_t used_ = 0;
  uint64_t counted_ = 0;  // by the count under way
  uint64_t since_ = 0;    // let in since it began
  bool counting_ = false, ever_counted_ = false;
  MonotonicTime counted_at_{};
  std::string position_;
};

}  // namespace datacloud
