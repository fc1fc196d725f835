// A stripe read's decoding: helper columns, sets of columns, and the blame for wrong bytes.
#include <fmt/format.h>

#include <bit>

#include "fs/read/stripe_read_job.h"

namespace datacloud {

// A code with one packet computes any byte range of a column from the same range of others; with
// more packets a column is decoded whole.
ByteRange StripeReadJob::code_range(const ByteRange& r) const {
  if (code_->packets() == 1) return r;
  const auto packets = static_cast<uint64_t>(code_->packets());
  const uint64_t whole = std::max<uint64_t>(record_->parity_bytes(), end_of(r));
  return {0, (whole + packets - 1) / packets * packets};
}

Error StripeReadJob::unreadable(Errc code, const std::string& what) const {
  const Errc kind = not_found_ == NotFound::refetch && source_.any_not_found() ? Errc::stale : code;
  return Error(kind, fmt::format("{}: {}", source_.describe(), what));
}

// Wants whose direct read has failed, is late or was left out are decoded, by column and range.
void StripeReadJob::start_jobs(Todo&) {
  for (int c = 0; c < code_->k(); ++c) {
    std::vector<ByteRange> ranges;
    std::vector<size_t> wants;
    for (size_t i = 0; i < states_.size(); ++i) {
      WantState& w = states_[i];
      if (w.answered || w.decoding || w.decode_error || static_cast<int>(w.slot.column) != c)
        continue;
      const bool waiting = w.direct == Direct::asked && !source_.late(c);
      if (waiting || w.direct == Direct::opening) continue;
      w.decoding = true;
      wants.push_back(i);
      ranges.push_back(range_of(i));
    }
    for (const ByteRange& r :
         coalesce(std::move(ranges), kRangeGapBytesMax, kDegradedRangeBytesMax)) {
      auto job = std::make_shared<DegradedRead>();
      job->lost = c;
      job->range = code_range(r);
      for (const size_t i : wants)
        if (range_of(i).offset >= r.offset && end_of(range_of(i)) <= end_of(r))
          job->wants.push_back(i);
      jobs_.push_back(std::move(job));
    }
  }
}

void StripeReadJob::step(const Job& job, Todo& todo) {
  if (job->running || job->over) return;
  std::erase_if(job->wants, [this](size_t i) { return states_[i].answered; });
  if (job->wants.empty()) {
    job->over = true;
  } else if (job->searching) {
    step_search(job, todo);
  } else {
    step_first(job, todo);
  }
}

void StripeReadJob::step_first(const Job& job, Todo& todo) {
  const ColumnSet lost = ColumnSet{1} << job->lost;
  auto set = code_->minimum_to_decode(lost, source_.usable() & ~lost, source_.costs(job->range));
  if (!set)
    fail(job, unreadable(Errc::unavailable, "wait until more of these sites are back"));
  else if (fetch(set.value(), job->range, todo))
    run(job, set.value(), todo);
}

void StripeReadJob::step_search(const Job& job, Todo& todo) {
  while (job->to_try.empty()) {
    const std::vector<uint32_t> costs = source_.costs(job->range);
    int next = -1;
    for (int c = 0; c < source_.n(); ++c) {
      if (c == job->lost || contains(job->joined, c) || source_.erased(c)) continue;
      if (next < 0 || costs[c] < costs[next]) next = c;
    }
    if (next < 0 || job->attempts >= kDecodeAttemptsMax)
      return fail(job, unreadable(Errc::corrupt,
                                  fmt::format("a block does not authenticate with any of {} sets "
                                              "of shards tried; repair the stripe",
                                              job->attempts)));
    if (!fetch(ColumnSet{1} << next, job->range, todo)) return;
    job->to_try = sets_joined_by(job->joined, next, code_->k(),
                                 static_cast<size_t>(kDecodeAttemptsMax - job->attempts));
    job->joined |= ColumnSet{1} << next;
  }
  const ColumnSet set = job->to_try.back();
  job->to_try.pop_back();
  run(job, set, todo);
}

// True when every column of the set is known over the range; else asks for what is missing.
bool StripeReadJob::fetch(ColumnSet set, const ByteRange& range, Todo& todo) {
  bool known = true;
  for (int c = 0; c < source_.n(); ++c) {
    if (!contains(set, c) || source_.covers(c, range)) continue;
    known = false;
    source_.want(c, {range}, monotonic_now(), todo.calls);
  }
  return known;
}

StripeReadJob::Inputs StripeReadJob::inputs(ColumnSet set, const ByteRange& range) const {
  Inputs in;
  in.shards.resize(static_cast<size_t>(source_.n()));
  for (int c = 0; c < source_.n(); ++c)
    if (contains(set, c)) in.shards[c] = source_.view(c, range, in.owners);
  return in;
}

void StripeReadJob::run(const Job& job, ColumnSet set, Todo& todo) {
  job->running = true;
  ++job->attempts;
  todo.tasks.push_back([self = shared_from_this(), job, set, in = inputs(set, job->range),
                        wants = job->wants] { self->decode(job, set, in, wants); });
}

// On the executor, without the lock.
void StripeReadJob::decode(const Job& job, ColumnSet set, const Inputs& in,
                           const std::vector<size_t>& wants) {
  Bytes plain_column(job->range.length);
  const auto decoded =
      code_->decode(ColumnSet{1} << job->lost, set, in.shards, {MutableByteView(plain_column)});
  std::vector<result<Bytes>> results;
  for (const size_t i : wants) {
    const ByteRange r = range_of(i);
    const ByteView sealed = ByteView(plain_column).subspan(r.offset - job->range.offset, r.length);
    results.push_back(decoded ? shared_->deps.sealer.open(wants_[i].address, sealed)
                              : result<Bytes>(failure(decoded.error())));
  }
  Todo todo;
  std::vector<size_t> disputed;
  {
    std::lock_guard lock(mutex_);
    for (size_t n = 0; n < wants.size(); ++n) {
      WantState& w = states_[wants[n]];
      if (!results[n] || w.answered) continue;
      if (w.disputed || job->searching) disputed.push_back(wants[n]);
    }
  }
  // Before the answer: once it is out nothing keeps the bytes read so far.
  if (!disputed.empty()) blame(*job, set, in, disputed);
  {
    std::lock_guard lock(mutex_);
    job->running = false;
    for (size_t n = 0; n < wants.size(); ++n) {
      const size_t i = wants[n];
      if (results[n]) {
        if (!states_[i].answered) ++shared_->degraded_reads;
        answer(i, std::move(results[n]), todo);
      } else if (!states_[i].answered && !job->searching) {
        auto search = std::make_shared<DegradedRead>();
        search->lost = job->lost;
        search->range = code_range(range_of(i));
        search->wants = {i};
        search->searching = true;
        search->joined = set;
        search->attempts = 1;
        states_[i].disputed = true;
        jobs_.push_back(std::move(search));
      }
    }
    if (!job->searching) job->over = true;
    advance(todo);
  }
  perform(todo, true);
}

void StripeReadJob::fail(const Job& job, const Error& error) {
  job->over = true;
  for (const size_t i : job->wants) {
    states_[i].decoding = false;
    states_[i].decode_error = error;
  }
}

// `set` has produced authentic blocks: every other column read over their ranges is compared with
// what the set says it should hold.
void StripeReadJob::blame(const DegradedRead& job, ColumnSet set, const Inputs& in,
                          const std::vector<size_t>& wants) {
  for (const size_t i : wants) {
    const ByteRange r = code_range(range_of(i));
    ColumnSet others = 0;
    Inputs compared;
    {
      std::lock_guard lock(mutex_);
      for (int c = 0; c < source_.n(); ++c)
        if (!contains(set, c) && !source_.disproved(c) && source_.clip(c, r).length > 0 &&
            source_.covers(c, r))
          others |= ColumnSet{1} << c;
      if (others == 0) continue;
      compared = inputs(others, r);
    }
    for (int c = 0; c < source_.n(); ++c)
      if (contains(set, c))
        compared.shards[c] = in.shards[c].subspan(r.offset - job.range.offset, r.length);
    const ColumnSet wrong = disproved_columns(*code_, set, others, compared.shards);
    std::lock_guard lock(mutex_);
    for (int c = 0; c < source_.n(); ++c)
      if (contains(wrong, c)) source_.disprove(c, "corrupt");
  }
}

}  // namespace datacloud
