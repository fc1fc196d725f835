// Calls and their futures; the arithmetic is in common/store/object_compute.h.
#include "tools/audit/shard_question.h"

#include <algorithm>
#include <future>
#include <memory>

#include "common/store/object_compute.h"

namespace datacloud {
namespace {

template <class T>
std::pair<Callback<T>, std::shared_future<result<T>>> promised() {
  auto promise = std::make_shared<std::promise<result<T>>>();
  std::shared_future<result<T>> future = promise->get_future();
  return {[promise](result<T> r) { promise->set_value(std::move(r)); }, std::move(future)};
}

// Ranges of a shard of which `data` is the start; what is past it is cut off.
std::vector<Bytes> ranges_of(ByteView data, const std::vector<ByteRange>& ranges) {
  std::vector<Bytes> parts;
  for (const auto& range : ranges) {
    const ByteView from = data.subspan(std::min<uint64_t>(range.offset, data.size()));
    parts.push_back(to_bytes(from.first(std::min<uint64_t>(range.length, from.size()))));
  }
  return parts;
}

result<AuditProof> prove(const ShardQuestion& question, const ReadReply& shard) {
  if (shard.object_size != question.bytes) {
    TRY(const auto instance, instance_of(shard.attributes));
    return AuditProof{.object_size = shard.object_size, .instance = instance};
  }
  TRY(const auto plan, plan_proof(question.challenge, shard.object_size, shard.attributes));
  return plan.prove(ranges_of(shard.ranges[0], plan.ranges));
}

}  // namespace

ShardAnswer answer_from_shard(const ShardQuestion& question, result<ReadReply> reply) {
  if (reply && reply.value().ranges.size() != 1) {
    reply = failure(Errc::corrupt, "the site sent other bytes than the shard");
  }
  if (!reply) return {failure(reply.error()), std::nullopt};
  ShardAnswer answer{prove(question, reply.value()), std::nullopt};
  if (!question.combination) return answer;
  answer.combined = [&]() -> result<CombineReply> {
    TRY(check_combination(*question.combination));
    auto ranges = ranges_of(reply.value().ranges[0], question.combination->ranges);
    auto combined = combine_ranges(std::move(ranges), *question.combination);
    combined.bytes_transferred = 0;  // the proof has paid for them
    return combined;
  }();
  return answer;
}

std::function<ShardAnswer()> ask_shard(ObjectStore& store, ShardQuestion question,
                                       OpOptions options) {
  if (question.read) {
    auto [callback, reply] = promised<ReadReply>();
    const std::vector<ByteRange> whole{{0, std::max<uint64_t>(1, question.bytes)}};
    store.read(question.object, whole, true, options, std::move(callback));
    return [question = std::move(question), reply = std::move(reply)] {
      return answer_from_shard(question, reply.get());
    };
  }
  auto [callback, proof] = promised<AuditProof>();
  store.prove(question.object, question.challenge, options, std::move(callback));
  if (!question.combination) {
    return [proof = std::move(proof)] { return ShardAnswer{proof.get(), std::nullopt}; };
  }
  auto [combine_callback, combined] = promised<CombineReply>();
  store.combine(question.object, *question.combination, options, std::move(combine_callback));
  return [proof = std::move(proof), combined = std::move(combined)] {
    return ShardAnswer{proof.get(), combined.get()};
  };
}

}  // namespace datacloud
