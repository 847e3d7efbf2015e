// Runs a Verilated chip with its memory. Python drives it through the C functions at the end; nothing
// of a cycle is done in Python.
//
// The chip's inputs come from registers (wrapper.py): what is set here reaches the chip
// with the next rising edge, and what the chip shows just before that edge decides the transfers.
// So the chip is evaluated once a cycle, not once more for the inputs.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "memory.h"
#ifdef SOCKETS
#include "sockets.h"
#endif
#include "verilated.h"

#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

namespace {

constexpr uint64_t kCycleTime = 1000;   // of the waves, in picoseconds: their nanoseconds are cycles
constexpr uint32_t kSamples = 400;      // windows of a run whose counters are kept; even

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

class Simulation {
  public:
    Simulation(const Settings& settings, const char* waves)
        : contents_(settings), samples_(sizeof(top_->counters) / sizeof(uint32_t)) {
        context_.traceEverOn(waves[0] != 0);
        top_ = std::make_unique<Vtop>(&context_);
#if MEMORY_PORTS == 1
        ports_.emplace_back(contents_, BUS(*top_, m_axi), 0);
#else
        ports_.emplace_back(contents_, BUS(*top_, m0_axi), 0);
        ports_.emplace_back(contents_, BUS(*top_, m1_axi), 1);
#endif
#if VM_TRACE
        if (waves[0]) {
            trace_ = std::make_unique<Trace>();
            top_->trace(trace_.get(), 99);
            trace_->open(waves);
        }
#endif
        top_->clk = 0;
        top_->eval();
#ifdef SOCKETS
        sockets_ = std::make_unique<Sockets>(context_, *top_, settings.threads);
#endif
        reset();
    }

    ~Simulation() {
        // the models take their names out of the thread's context, which may be another simulation's
        Verilated::threadContextp(&context_);
        top_->final();
#if VM_TRACE
        if (trace_) trace_->close();
#endif
    }

    // The reset pin, for cycles that are not counted; what was due on the buses is dropped.
    void reset() {
        for (Port& port : ports_) port.reset();
        release_address_ = release_data_ = release_ = false;
        Vtop& t = *top_;
        t.s_axil_awvalid = t.s_axil_wvalid = t.s_axil_bready = t.s_axil_arvalid = t.s_axil_rready = 0;
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
            memcpy(contents_.storage.touch(static_cast<uint32_t>(address)), data, part);
            address += part, data += part, size -= part;
        }
    }

    void read(uint64_t address, uint8_t* data, uint64_t size) const {
        while (size) {
            const uint64_t part = std::min<uint64_t>(size, kPage - (address & (kPage - 1)));
            memcpy(data, contents_.storage.at(static_cast<uint32_t>(address)), part);
            address += part, data += part, size -= part;
        }
    }

    // Bytes written outside these ranges, `count` pairs of first address and end, are counted.
    void confine(const uint64_t* limits, uint32_t count) {
        contents_.confine(limits, count);
    }

    // The beats with these numbers, from 1 and from now on, are answered with errors; 0: none.
    void fail(uint64_t read, uint64_t write) {
        contents_.failing_read = read ? contents_.state.lines_read + read : 0;
        contents_.failing_write = write ? contents_.state.lines_written + write : 0;
    }

    // From now on the memory takes and answers nothing at the ports of these bits.
    void mute(uint32_t ports) { contents_.mute = ports; }

    const State& state() {
        contents_.state.irq = top_->irq;
        return contents_.state;
    }

    // What `run` has seen of the counters since `begin`.
    Samples& samples() { return samples_; }

  private:
    // One cycle: take what is transferred at its end, set the next cycle's inputs, go there.
    void step() {
        Vtop& t = *top_;
        for (Port& port : ports_) port.take();
        ++contents_.state.cycle;
        for (Port& port : ports_) port.answer();
        if (release_address_) t.s_axil_awvalid = t.s_axil_arvalid = 0;
        if (release_data_) t.s_axil_wvalid = 0;
        if (release_) t.s_axil_bready = t.s_axil_rready = 0;
        release_address_ = release_data_ = release_ = false;
        edge();
        for (Port& port : ports_) port.check();
    }

    void edge() {
#ifdef SOCKETS
        sockets_->clock();
        sockets_->settle();
#else
        top_->clk = 1;
        top_->eval();
        if (!top_->rst) dump(0);
        top_->clk = 0;
        top_->eval();
        if (!top_->rst) dump(kCycleTime / 2);
#endif
    }

    // Record the signals at this time of the cycle, if it is one of those to record.
    void dump(uint64_t time) {
#if VM_TRACE
        if (!trace_ || contents_.state.cycle < contents_.settings.waves_first) return;
        if (contents_.state.cycle <= contents_.settings.waves_last)
            trace_->dump(kCycleTime * contents_.state.cycle + time);
        else if (trace_->isOpen())
            trace_->close();
#endif
    }

    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
#ifdef SOCKETS
    std::unique_ptr<Sockets> sockets_;
#endif
#if VM_TRACE
    std::unique_ptr<Trace> trace_;
#endif
    Contents contents_;
    std::vector<Port> ports_;
    Samples samples_;
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
EXPORT void loopnest_mute(void* s, uint32_t ports) { static_cast<Simulation*>(s)->mute(ports); }
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
