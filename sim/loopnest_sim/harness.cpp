// Runs a Verilated chip with its memory. Python drives it through the C functions at the end; nothing
// of a cycle is done in Python.
//
// The chip's inputs come from registers (wrapper.py): what is set here reaches the chip
// with the next rising edge, and what the chip shows just before that edge decides the transfers.
// So the chip is evaluated once a cycle, not once more for the inputs.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

namespace {

constexpr uint32_t kLine = 32;          // bytes of a beat
constexpr uint32_t kPageBits = 12;      // storage is allocated in pages
constexpr uint32_t kPage = 1u << kPageBits;
constexpr uint32_t kQueue = 1024;       // requests that the memory takes in before it answers
constexpr uint32_t kReorderWindow = 16; // requests among which the next answer is chosen
constexpr uint8_t kSlaveError = 2;
constexpr uint32_t kRooms = 16;         // ranges that writes may be confined to
constexpr uint64_t kCycleTime = 1000;   // of the waves, in picoseconds: their nanoseconds are cycles
constexpr uint32_t kSamples = 400;      // windows of a run whose counters are kept; even

// What Python sets; `MEMORY_FIELDS` in simulator.py has the same order.
struct Settings {
    uint64_t latency, reorder, seed, fill;
    uint64_t error_first, error_end, window_first, window_end;
    uint64_t waves_first, waves_last;
    double bytes_per_cycle, stall;
};

// What Python reads; `STATE_FIELDS` in simulator.py has the same order.
struct State {
    uint64_t cycle, irq, lines_read, lines_written, bytes_written;
    uint64_t window_violations, window_address, window_write, window_cycle;
    uint64_t protocol_violations, protocol_rule, protocol_cycle;
    uint64_t stray_writes, stray_address, errors_answered;
};

// Numbers of the rules; `PROTOCOL_RULES` in simulator.py has the same order.
enum Rule : uint64_t {
    kReadHolds,
    kWriteAddressHolds,
    kWriteDataHolds,
    kBeatSize,
    kBurst,
    kLastBeat,
};

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull) {}
    uint32_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<uint32_t>(state_ >> 32);
    }

  private:
    uint64_t state_;
};

// A queue of fixed capacity whose elements can be taken from the middle.
template <typename T> class Queue {
  public:
    explicit Queue(uint32_t capacity) : items_(capacity), mask_(capacity - 1) {}
    bool full() const { return size_ > mask_; }
    uint32_t size() const { return size_; }
    T& operator[](uint32_t i) { return items_[(head_ + i) & mask_]; }
    void push(const T& item) { (*this)[size_++] = item; }
    void clear() { size_ = 0; }
    T take(uint32_t i) {
        T item = (*this)[i];
        for (; i; --i) (*this)[i] = (*this)[i - 1];
        head_ = (head_ + 1) & mask_;
        --size_;
        return item;
    }

  private:
    std::vector<T> items_;
    uint32_t mask_, head_ = 0, size_ = 0;
};

class Storage {
  public:
    explicit Storage(uint8_t fill)
        : pages_(static_cast<uint8_t**>(calloc(1u << (32 - kPageBits), sizeof(uint8_t*)))) {
        memset(blank_, fill, kPage);
    }
    ~Storage() {
        for (uint32_t i = 0; i < 1u << (32 - kPageBits); ++i) free(pages_[i]);
        free(pages_);
    }
    const uint8_t* at(uint32_t address) const {
        const uint8_t* page = pages_[address >> kPageBits];
        return (page ? page : blank_) + (address & (kPage - 1));
    }
    uint8_t* touch(uint32_t address) {
        uint8_t*& page = pages_[address >> kPageBits];
        if (!page) {
            page = static_cast<uint8_t*>(malloc(kPage));
            memcpy(page, blank_, kPage);
        }
        return page + (address & (kPage - 1));
    }

  private:
    uint8_t** pages_;
    uint8_t blank_[kPage];
};

// Bytes that may pass: a beat needs kLine of them.
class Bandwidth {
  public:
    explicit Bandwidth(double rate) : rate_(rate < kLine ? rate : kLine) {}
    void cycle() {
        tokens_ += rate_;
        // what is left over of a beat counts for the next one, an idle time does not; a ready that
        // was decided a cycle before its transfer must not lose the cycle between
        if (tokens_ > kLine + 2 * rate_) tokens_ = kLine + 2 * rate_;
    }
    bool enough() const { return tokens_ >= kLine; }
    void spend() { tokens_ -= kLine; }

  private:
    double rate_, tokens_ = kLine;
};

// The counters' values at the ends of a run's windows, all of the same number of cycles. Where there
// would be too many windows, they are joined in pairs.
class Samples {
  public:
    explicit Samples(uint32_t counters) : counters_(counters) {}
    void begin() {
        window_ = left_ = 1;
        values_.clear();
    }
    void cycle(const uint32_t* counters) {
        if (--left_) return;
        values_.insert(values_.end(), counters, counters + counters_);
        if (size() == kSamples) {
            for (uint32_t i = 0; i < kSamples / 2; ++i)
                std::copy_n(&values_[(2 * i + 1) * counters_], counters_, &values_[i * counters_]);
            values_.resize(kSamples / 2 * counters_);
            window_ *= 2;
        }
        left_ = window_;
    }
    uint32_t counters() const { return counters_; }
    uint32_t size() const { return static_cast<uint32_t>(values_.size() / counters_); }
    const std::vector<uint32_t>& values() const { return values_; }

  private:
    uint32_t counters_;
    uint64_t window_ = 1, left_ = 1;
    std::vector<uint32_t> values_;
};

struct Request {
    uint64_t due;
    uint32_t address, id, beats;
};
struct Beat {
    uint8_t data[kLine];
    uint32_t strobe;
    bool last;
};
struct Response {
    uint64_t due;
    uint32_t id;
    uint8_t code;
};

class Simulation {
  public:
    Simulation(const Settings& settings, const char* waves)
        : settings_(settings), storage_(static_cast<uint8_t>(settings.fill)), random_(settings.seed),
          stall_(static_cast<uint32_t>(settings.stall * 4294967295.0)),
          read_bandwidth_(settings.bytes_per_cycle), write_bandwidth_(settings.bytes_per_cycle),
          reads_(kQueue), writes_(kQueue), beats_(kQueue), responses_(kQueue),
          samples_(sizeof(top_->counters) / sizeof(uint32_t)) {
        context_.traceEverOn(waves[0] != 0);
        top_ = std::make_unique<Vtop>(&context_);
#if VM_TRACE
        if (waves[0]) {
            trace_ = std::make_unique<Trace>();
            top_->trace(trace_.get(), 99);
            trace_->open(waves);
        }
#endif
        top_->clk = 0;
        top_->eval();
        reset();
    }

    ~Simulation() {
        top_->final();
#if VM_TRACE
        if (trace_) trace_->close();
#endif
    }

    // The reset pin, for cycles that are not counted; what was due on the buses is dropped.
    void reset() {
        reads_.clear();
        writes_.clear();
        beats_.clear();
        responses_.clear();
        burst_ = Request{};
        write_error_ = release_address_ = release_data_ = release_ = false;
        Vtop& t = *top_;
        t.s_axil_awvalid = t.s_axil_wvalid = t.s_axil_bready = t.s_axil_arvalid = t.s_axil_rready = 0;
        t.m_axi_arready = t.m_axi_rvalid = t.m_axi_awready = t.m_axi_wready = t.m_axi_bvalid = 0;
        t.rst = 1;
        for (int i = 0; i < 4; ++i) edge();
        t.rst = 0;
        edge();
    }

    // Run up to `cycles`, but stop where the interrupt is on.
    void run(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles && !top_->irq; ++i) {
            step();
            samples_.cycle(reinterpret_cast<const uint32_t*>(&top_->counters));
        }
    }

    void advance(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles; ++i) step();
    }

    // An AXI4-Lite transaction; returns its response, or -1 after `limit` cycles without one.
    int write_register(uint32_t offset, uint32_t value, uint64_t limit) {
        top_->s_axil_awaddr = offset;
        top_->s_axil_wdata = value;
        top_->s_axil_wstrb = 15;
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 1;
        step();
        int code = -1;
        for (uint64_t i = 0; i < limit && code < 0; ++i) {
            const bool address = top_->s_axil_awvalid && top_->s_axil_awready;
            const bool data = top_->s_axil_wvalid && top_->s_axil_wready;
            if (top_->s_axil_bvalid) code = top_->s_axil_bresp;
            if (code >= 0) release_ = true;
            if (address) release_address_ = true;
            if (data) release_data_ = true;
            step();
        }
        return code;
    }

    int read_register(uint32_t offset, uint32_t* value, uint64_t limit) {
        top_->s_axil_araddr = offset;
        top_->s_axil_arvalid = top_->s_axil_rready = 1;
        step();
        int code = -1;
        for (uint64_t i = 0; i < limit && code < 0; ++i) {
            if (top_->s_axil_arvalid && top_->s_axil_arready) release_address_ = true;
            if (top_->s_axil_rvalid) {
                code = top_->s_axil_rresp;
                *value = top_->s_axil_rdata;
                release_ = true;
            }
            step();
        }
        return code;
    }

    void write(uint64_t address, const uint8_t* data, uint64_t size) {
        while (size) {
            const uint64_t part = std::min<uint64_t>(size, kPage - (address & (kPage - 1)));
            memcpy(storage_.touch(static_cast<uint32_t>(address)), data, part);
            address += part, data += part, size -= part;
        }
    }

    void read(uint64_t address, uint8_t* data, uint64_t size) const {
        while (size) {
            const uint64_t part = std::min<uint64_t>(size, kPage - (address & (kPage - 1)));
            memcpy(data, storage_.at(static_cast<uint32_t>(address)), part);
            address += part, data += part, size -= part;
        }
    }

    // Bytes written outside these ranges, `count` pairs of first address and end, are counted.
    void confine(const uint64_t* limits, uint32_t count) {
        rooms_ = std::min(count, kRooms);
        std::copy(limits, limits + 2 * rooms_, limits_);
        confined_ = true;
        state_.stray_writes = state_.errors_answered = 0;
    }

    // The beats with these numbers, from 1 and from now on, are answered with errors; 0: none.
    void fail(uint64_t read, uint64_t write) {
        failing_read_ = read ? state_.lines_read + read : 0;
        failing_write_ = write ? state_.lines_written + write : 0;
    }

    // From now on the memory takes and answers nothing, or does so again.
    void mute(bool on) { mute_ = on; }

    const State& state() {
        state_.irq = top_->irq;
        return state_;
    }

    // What `run` has seen of the counters since `begin`.
    Samples& samples() { return samples_; }

  private:
    bool stalls() { return stall_ && random_.next() < stall_; }

    void broken(Rule rule) {
        if (state_.protocol_violations++ == 0) {
            state_.protocol_rule = rule;
            state_.protocol_cycle = state_.cycle;
        }
    }

    void touched(uint32_t address, bool write) {
        if (address >= settings_.window_first && address + uint64_t{kLine} <= settings_.window_end)
            return;
        if (state_.window_violations++ == 0) {
            state_.window_address = address;
            state_.window_write = write;
            state_.window_cycle = state_.cycle;
        }
    }

    void stray(uint32_t address, uint32_t strobe) {
        for (uint32_t i = 0; confined_ && i < kLine; ++i) {
            if (!(strobe >> i & 1)) continue;
            bool inside = false;
            for (uint32_t r = 0; r < rooms_; ++r)
                inside |= address + i >= limits_[2 * r] && address + i < limits_[2 * r + 1];
            if (!inside && state_.stray_writes++ == 0) state_.stray_address = address + i;
        }
    }

    bool fails(uint32_t address) const {
        return address >= settings_.error_first && address < settings_.error_end;
    }

    void check_request(uint32_t size, uint32_t burst) {
        if (size != 5) broken(kBeatSize);
        if (burst != 1) broken(kBurst);
    }

    // One cycle: take what is transferred at its end, set the next cycle's inputs, go there.
    void step() {
        Vtop& t = *top_;
        read_bandwidth_.cycle();
        write_bandwidth_.cycle();

        const bool read_taken = t.m_axi_rvalid && t.m_axi_rready;
        const bool response_taken = t.m_axi_bvalid && t.m_axi_bready;
        const bool read_waits = t.m_axi_arvalid && !t.m_axi_arready;
        const bool write_waits = t.m_axi_awvalid && !t.m_axi_awready;
        const bool data_waits = t.m_axi_wvalid && !t.m_axi_wready;
        if (t.m_axi_arvalid && t.m_axi_arready) {
            check_request(t.m_axi_arsize, t.m_axi_arburst);
            // without some spread there would be one answer at a time to choose from
            const uint32_t late = settings_.reorder ? random_.next() % kReorderWindow : 0;
            reads_.push({state_.cycle + settings_.latency + late, t.m_axi_araddr & ~(kLine - 1),
                         t.m_axi_arid, t.m_axi_arlen + 1u});
        }
        if (t.m_axi_awvalid && t.m_axi_awready) {
            check_request(t.m_axi_awsize, t.m_axi_awburst);
            writes_.push({0, t.m_axi_awaddr & ~(kLine - 1), t.m_axi_awid, t.m_axi_awlen + 1u});
        }
        if (t.m_axi_wvalid && t.m_axi_wready) {
            Beat beat;
            memcpy(beat.data, &t.m_axi_wdata, kLine);
            beat.strobe = t.m_axi_wstrb;
            beat.last = t.m_axi_wlast;
            beats_.push(beat);
            write_bandwidth_.spend();
        }
        const Request read_before{0, t.m_axi_araddr, t.m_axi_arid, t.m_axi_arlen};
        const Request write_before{0, t.m_axi_awaddr, t.m_axi_awid, t.m_axi_awlen};
        Beat data_before;
        if (data_waits) {
            memcpy(data_before.data, &t.m_axi_wdata, kLine);
            data_before.strobe = t.m_axi_wstrb;
        }

        ++state_.cycle;
        store();
        if (read_taken || !t.m_axi_rvalid) next_read();
        if (response_taken || !t.m_axi_bvalid) next_response();
        t.m_axi_arready = !mute_ && !reads_.full() && !stalls();
        t.m_axi_awready = !mute_ && !writes_.full() && !responses_.full() && !stalls();
        t.m_axi_wready = !mute_ && !beats_.full() && write_bandwidth_.enough() && !stalls();
        if (release_address_) t.s_axil_awvalid = t.s_axil_arvalid = 0;
        if (release_data_) t.s_axil_wvalid = 0;
        if (release_) t.s_axil_bready = t.s_axil_rready = 0;
        release_address_ = release_data_ = release_ = false;
        edge();

        if (read_waits &&
            !(t.m_axi_arvalid && t.m_axi_araddr == read_before.address &&
              t.m_axi_arid == read_before.id && t.m_axi_arlen == read_before.beats))
            broken(kReadHolds);
        if (write_waits &&
            !(t.m_axi_awvalid && t.m_axi_awaddr == write_before.address &&
              t.m_axi_awid == write_before.id && t.m_axi_awlen == write_before.beats))
            broken(kWriteAddressHolds);
        if (data_waits && !(t.m_axi_wvalid && t.m_axi_wstrb == data_before.strobe &&
                            !memcmp(&t.m_axi_wdata, data_before.data, kLine)))
            broken(kWriteDataHolds);
    }

    // Do the writes that have both address and data.
    void store() {
        while (writes_.size() && beats_.size() && !responses_.full()) {
            Request& request = writes_[0];
            const Beat beat = beats_.take(0);
            touched(request.address, true);
            stray(request.address, beat.strobe);
            const bool error =
                fails(request.address) || state_.lines_written + 1 == failing_write_;
            state_.errors_answered += error;
            write_error_ |= error;
            if (!error) {
                uint8_t* line = storage_.touch(request.address);
                for (uint32_t i = 0; i < kLine; ++i)
                    if (beat.strobe >> i & 1) line[i] = beat.data[i];
            }
            state_.bytes_written += __builtin_popcount(beat.strobe);
            ++state_.lines_written;
            request.address += kLine;
            if (beat.last != (--request.beats == 0)) broken(kLastBeat);
            if (request.beats) continue;
            responses_.push({state_.cycle + settings_.latency, request.id,
                             write_error_ ? kSlaveError : uint8_t{0}});
            write_error_ = false;
            writes_.take(0);
        }
    }

    // Put the next read beat on the bus, if one is due.
    void next_read() {
        Vtop& t = *top_;
        t.m_axi_rvalid = 0;
        if (mute_) return;
        if (!burst_.beats) {
            const uint32_t chosen = choose();
            if (chosen == reads_.size() || stalls()) return;
            burst_ = reads_.take(chosen);
        } else if (stalls()) {
            return;
        }
        if (!read_bandwidth_.enough()) return;
        read_bandwidth_.spend();
        touched(burst_.address, false);
        memcpy(&t.m_axi_rdata, storage_.at(burst_.address), kLine);
        t.m_axi_rid = burst_.id;
        const bool error = fails(burst_.address) || state_.lines_read + 1 == failing_read_;
        state_.errors_answered += error;
        t.m_axi_rresp = error ? kSlaveError : 0;
        t.m_axi_rlast = burst_.beats == 1;
        t.m_axi_rvalid = 1;
        burst_.address += kLine;
        --burst_.beats;
        ++state_.lines_read;
    }

    // The place of the request to answer next, or the queue's size if none is due.
    uint32_t choose() {
        const uint32_t reach = std::min(settings_.reorder ? kReorderWindow : 1, reads_.size());
        uint32_t chosen = reads_.size(), candidates = 0;
        for (uint32_t i = 0; i < reach; ++i) {
            if (reads_[i].due > state_.cycle) continue;
            bool first = true;  // those of one identifier stay in order
            for (uint32_t j = 0; j < i; ++j) first &= reads_[j].id != reads_[i].id;
            if (!first) continue;
            ++candidates;
            if (candidates == 1 || random_.next() % candidates == 0) chosen = i;
        }
        return chosen;
    }

    void next_response() {
        Vtop& t = *top_;
        t.m_axi_bvalid = 0;
        if (mute_ || !responses_.size() || responses_[0].due > state_.cycle || stalls()) return;
        const Response response = responses_.take(0);
        t.m_axi_bid = response.id;
        t.m_axi_bresp = response.code;
        t.m_axi_bvalid = 1;
    }

    void edge() {
        top_->clk = 1;
        top_->eval();
        if (!top_->rst) dump(0);
        top_->clk = 0;
        top_->eval();
        if (!top_->rst) dump(kCycleTime / 2);
    }

    // Record the signals at this time of the cycle, if it is one of those to record.
    void dump(uint64_t time) {
#if VM_TRACE
        if (!trace_ || state_.cycle < settings_.waves_first) return;
        if (state_.cycle <= settings_.waves_last)
            trace_->dump(kCycleTime * state_.cycle + time);
        else if (trace_->isOpen())
            trace_->close();
#endif
    }

    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
#if VM_TRACE
    std::unique_ptr<Trace> trace_;
#endif
    Settings settings_;
    State state_{};
    Storage storage_;
    Random random_;
    uint32_t stall_;
    uint64_t limits_[2 * kRooms], failing_read_ = 0, failing_write_ = 0;
    uint32_t rooms_ = 0;
    bool confined_ = false;
    Bandwidth read_bandwidth_, write_bandwidth_;
    Queue<Request> reads_, writes_;
    Queue<Beat> beats_;
    Queue<Response> responses_;
    Samples samples_;
    Request burst_{};
    bool write_error_ = false, mute_ = false;
    bool release_address_ = false, release_data_ = false, release_ = false;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void* loopnest_new(const Settings* settings, const char* waves) {
    return new Simulation(*settings, waves);
}
EXPORT void loopnest_delete(void* s) { delete static_cast<Simulation*>(s); }
EXPORT void loopnest_reset(void* s) { static_cast<Simulation*>(s)->reset(); }
EXPORT void loopnest_run(void* s, uint64_t cycles) { static_cast<Simulation*>(s)->run(cycles); }
EXPORT void loopnest_step(void* s, uint64_t cycles) {
    static_cast<Simulation*>(s)->advance(cycles);
}
EXPORT void loopnest_mute(void* s, int on) { static_cast<Simulation*>(s)->mute(on); }
EXPORT void loopnest_confine(void* s, const uint64_t* limits, uint32_t count) {
    static_cast<Simulation*>(s)->confine(limits, count);
}
EXPORT void loopnest_fail(void* s, uint64_t read, uint64_t write) {
    static_cast<Simulation*>(s)->fail(read, write);
}
EXPORT void loopnest_state(void* s, State* state) { *state = static_cast<Simulation*>(s)->state(); }
EXPORT void loopnest_begin_samples(void* s) { static_cast<Simulation*>(s)->samples().begin(); }
EXPORT uint32_t loopnest_sampled_counters(void* s) {
    return static_cast<Simulation*>(s)->samples().counters();
}
// Copies the samples, up to kSamples of them, and returns how many there are.
EXPORT uint32_t loopnest_samples(void* s, uint32_t* values) {
    const Samples& samples = static_cast<Simulation*>(s)->samples();
    std::copy(samples.values().begin(), samples.values().end(), values);
    return samples.size();
}
EXPORT int loopnest_write_register(void* s, uint32_t offset, uint32_t value, uint64_t limit) {
    return static_cast<Simulation*>(s)->write_register(offset, value, limit);
}
EXPORT int loopnest_read_register(void* s, uint32_t offset, uint32_t* value, uint64_t limit) {
    return static_cast<Simulation*>(s)->read_register(offset, value, limit);
}
EXPORT void loopnest_write(void* s, uint64_t address, const uint8_t* data, uint64_t size) {
    static_cast<Simulation*>(s)->write(address, data, size);
}
EXPORT void loopnest_read(void* s, uint64_t address, uint8_t* data, uint64_t size) {
    static_cast<const Simulation*>(s)->read(address, data, size);
}
