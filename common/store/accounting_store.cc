// AccountingStore: counts what crosses the seam, by purpose.
#include "common/store/store_decorators.h"

namespace datacloud {

void TrafficCounters::add_read(Purpose purpose, uint64_t bytes) {
  auto& cells = cells_[static_cast<size_t>(purpose)];
  cells.read.fetch_add(bytes, std::memory_order_relaxed);
  cells.operations.fetch_add(1, std::memory_order_relaxed);
}

void TrafficCounters::add_written(Purpose purpose, uint64_t bytes) {
  auto& cells = cells_[static_cast<size_t>(purpose)];
  cells.written.fetch_add(bytes, std::memory_order_relaxed);
  cells.operations.fetch_add(1, std::memory_order_relaxed);
}

TrafficCounters::Row TrafficCounters::row(Purpose purpose) const {
  const auto& cells = cells_[static_cast<size_t>(purpose)];
  return {cells.read.load(), cells.written.load(), cells.operations.load()};
}

void TrafficCounters::reset() {
  for (auto& cells : cells_) {
    cells.read = 0;
    cells.written = 0;
    cells.operations = 0;
  }
}

namespace {

uint64_t bytes_of(const Attributes& attributes) {
  uint64_t n = 0;
  for (const auto& [name, value] : attributes) n += name.size() + value.size();
  return n;
}

constexpr auto transferred = [](const auto& reply) { return reply.bytes_transferred; };

class AccountingStore final : public ObjectStore {
 public:
  AccountingStore(std::unique_ptr<ObjectStore> below, TrafficCounters& counters)
      : below_(std::move(below)), counters_(counters) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    counters_.add_written(options.purpose, data.size() + bytes_of(attributes));
    below_->put(name, std::move(data), std::move(attributes), options, std::move(callback));
  }
  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    below_->read(name, std::move(ranges), want_attributes, options,
                 counted<ReadReply>(options.purpose, std::move(callback), [](const ReadReply& r) {
                   uint64_t bytes = bytes_of(r.attributes);
                   for (const auto& range : r.ranges) bytes += range.size();
                   return bytes;
                 }));
  }
  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    uint64_t sent = 0;  // what a failed call has cost at least
    for (const auto* ranges : {&derivation.data, &derivation.tags}) {
      for (const auto& range : *ranges) sent += range.bytes.size();
    }
    below_->derive(name, std::move(derivation), options,
                   [this, purpose = options.purpose, sent,
                    callback = std::move(callback)](result<DeriveReply> r) {
                     counters_.add_written(purpose, r ? r.value().bytes_transferred : sent);
                     callback(std::move(r));
                   });
  }
  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    below_->combine(name, std::move(combination), options,
                    counted<CombineReply>(options.purpose, std::move(callback), transferred));
  }
  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    below_->prove(name, challenge, options,
                  counted<AuditProof>(options.purpose, std::move(callback), transferred));
  }
  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    counters_.add_written(options.purpose, 0);
    below_->remove(name, options, std::move(callback));
  }
  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    below_->list(from, count_max, options,
                 counted<ListReply>(options.purpose, std::move(callback), [](const ListReply& r) {
                   uint64_t bytes = 0;
                   for (const auto& name : r.names) bytes += name.size();
                   return bytes;
                 }));
  }
  void check(OpOptions options, Callback<void> callback) override {
    counters_.add_read(options.purpose, 0);
    below_->check(options, std::move(callback));
  }
  void capacity(OpOptions options, Callback<Capacity> callback) override {
    counters_.add_read(options.purpose, 0);
    below_->capacity(options, std::move(callback));
  }
  std::string location(const std::string& name) const override { return below_->location(name); }

 private:
  template <class T, class Size>
  Callback<T> counted(Purpose purpose, Callback<T> callback, Size size) {
    return [this, purpose, callback = std::move(callback), size](result<T> r) {
      counters_.add_read(purpose, r ? size(r.value()) : 0);
      callback(std::move(r));
    };
  }

  const std::unique_ptr<ObjectStore> below_;
  TrafficCounters& counters_;
};

}  // namespace

std::unique_ptr<ObjectStore> make_accounting_store(std::unique_ptr<ObjectStore> below,
                                                   TrafficCounters& counters) {
  return std::make_unique<AccountingStore>(std::move(below), counters);
}

}  // namespace datacloud
