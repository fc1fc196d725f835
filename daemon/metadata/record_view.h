// Records as they are read: a state that can be asked for a key and walked through in key order,
// and layers of changes laid over it.
//
// A Transaction reads its own changes over a view of what has been applied. Layers are merged in
// one place, LayeredCursor, however many there are.
//
// Threads: as the store they belong to, that is the service's.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/error.h"
#include "common/base/ids.h"

namespace datacloud {

// Walks over the records of a range, up or down. What key() and value() show holds until it moves.
class RecordCursor {
 public:
  virtual ~RecordCursor() = default;
  // To the first, or the last, record with begin <= key < end; from there on up with next() after
  // first(), down with next() after last().
  virtual void first(const std::string& begin, const std::string& end) = 0;
  virtual void last(const std::string& begin, const std::string& end) = 0;
  virtual bool valid() const = 0;  // false: behind the range's end, or damage (status)
  virtual void next() = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view value() const = 0;
  // The layer says that there is no such record, whatever lies below.
  virtual bool erased() const { return false; }
  virtual result<void> status() const = 0;
};

class RecordView {
 public:
  virtual ~RecordView() = default;
  // nullopt: no such record. corrupt or io: the view is damaged (stop the daemon).
  virtual result<std::optional<std::string>> read(const std::string& key) const = 0;
  // Shows the state of `sequence()`; a new one is needed when that has grown.
  virtual std::shared_ptr<RecordCursor> cursor() const = 0;
  virtual Sequence sequence() const = 0;
};

// Changes by key; nullopt erases.
using RecordChanges = std::map<std::string, std::optional<std::string>>;

class ChangesCursor final : public RecordCursor {
 public:
  explicit ChangesCursor(const RecordChanges& changes) : changes_(changes) {}
  void first(const std::string& begin, const std::string& end) override;
  void last(const std::string& begin, const std::string& end) override;
  bool valid() const override { return left_; }
  void next() override;
  std::string_view key() const override { return at_->first; }
  std::string_view value() const override { return *at_->second; }
  bool erased() const override { return !at_->second; }
  result<void> status() const override { return success(); }

 private:
  const RecordChanges& changes_;
  RecordChanges::const_iterator at_, stop_;  // going up: behind the range; down: its first
  bool up_ = true, left_ = false;
};

// `above` over `below`, both of which it moves; what `above` erases is not seen.
class LayeredCursor final : public RecordCursor {
 public:
  LayeredCursor(RecordCursor& above, RecordCursor& below) : above_(above), below_(below) {}
  void first(const std::string& begin, const std::string& end) override;
  void last(const std::string& begin, const std::string& end) override;
  bool valid() const override { return at_ != nullptr; }
  void next() override;
  std::string_view key() const override { return at_->key(); }
  std::string_view value() const override { return at_->value(); }
  result<void> status() const override;

 private:
  void settle();
  void step();

  RecordCursor& above_;
  RecordCursor& below_;
  RecordCursor* at_ = nullptr;  // the one whose record is shown
  bool up_ = true;
  bool both_ = false;  // the other one stands at the same key
};

}  // namespace datacloud
