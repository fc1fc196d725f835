// Cursors over changes, and over one layer upon another.
#include "daemon/metadata/record_view.h"

#include <iterator>

namespace datacloud {

void ChangesCursor::first(const std::string& begin, const std::string& end) {
  up_ = true;
  at_ = changes_.lower_bound(begin);
  stop_ = changes_.lower_bound(end);
  left_ = at_ != stop_ && begin < end;
}

void ChangesCursor::last(const std::string& begin, const std::string& end) {
  up_ = false;
  at_ = changes_.lower_bound(end);
  stop_ = changes_.lower_bound(begin);
  left_ = at_ != stop_ && begin < end;
  if (left_) --at_;
}

void ChangesCursor::next() {
  if (up_) {
    left_ = ++at_ != stop_;
  } else if (at_ == stop_) {
    left_ = false;
  } else {
    --at_;
  }
}

void LayeredCursor::first(const std::string& begin, const std::string& end) {
  up_ = true;
  above_.first(begin, end);
  below_.first(begin, end);
  settle();
}

void LayeredCursor::last(const std::string& begin, const std::string& end) {
  up_ = false;
  above_.last(begin, end);
  below_.last(begin, end);
  settle();
}

void LayeredCursor::next() {
  step();
  settle();
}

// Past the record it stands at, in both layers.
void LayeredCursor::step() {
  if (both_) below_.next();
  at_->next();
}

// To the nearer of the two records, the upper one where both are the same, past what is erased.
void LayeredCursor::settle() {
  for (;;) {
    both_ = false;
    if (!above_.valid()) {
      at_ = below_.valid() ? &below_ : nullptr;
      return;
    }
    at_ = &above_;
    if (below_.valid()) {
      const int order = above_.key().compare(below_.key());
      both_ = order == 0;
      if (up_ ? order > 0 : order < 0) at_ = &below_;
    }
    if (at_ == &below_ || !above_.erased()) return;
    step();
  }
}

result<void> LayeredCursor::status() const {
  TRY(above_.status());
  return below_.status();
}

}  // namespace datacloud
