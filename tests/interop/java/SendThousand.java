import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends {@code count} messages with the official producer, a third one-way, a third asynchronously, the rest
 * synchronously, and prints one line of JSON about them. Exit status 0 means that every send went well.
 *
 * <p>A message's body and its KEYS are {@code <mode>-<i>}, its TAGS are {@code <mode>}; {@code i} counts from 0 in each
 * mode.
 *
 * <p>Usage: {@code SendThousand <namesrv> <topic> <count>}
 */
public final class SendThousand {
    private static final int IN_FLIGHT_MAX = 64;
    private static final int TIMEOUT_MS = 15_000;

    private final DefaultMQProducer producer;
    private final String topic;
    private final List<String> errors = Collections.synchronizedList(new ArrayList<String>());
    private final AtomicInteger asyncOk = new AtomicInteger();
    private int syncOk;
    private int onewaySent;
    private String firstMsgId;
    private String lastMsgId;

    private SendThousand(DefaultMQProducer producer, String topic) {
        this.producer = producer;
        this.topic = topic;
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: SendThousand <namesrv> <topic> <count>");
            System.exit(2);
        }
        int count = Integer.parseInt(args[2]);
        // Some clients log to standard output, from threads that outlive shutdown; only the report belongs there.
        PrintStream standardOutput = System.out;
        System.setOut(System.err);
        DefaultMQProducer producer = new DefaultMQProducer("interop_java_producer");
        producer.setNamesrvAddr(args[0]);
        producer.setSendMsgTimeout(TIMEOUT_MS);
        SendThousand program = new SendThousand(producer, args[1]);
        try {
            producer.start();
            program.send(count);
        } catch (Exception e) {
            program.errors.add("run: " + e);
        } finally {
            producer.shutdown();
        }
        standardOutput.println(program.report());
        // The client leaves threads behind that are not daemons.
        System.exit(program.errors.isEmpty() ? 0 : 1);
    }

    private void send(int count) throws InterruptedException {
        int third = count / 3;
        sendOneway(third);
        sendAsync(third);
        // Last, because requests travel in order on the one connection to a broker: a broker that answers these has
        // read the one-way requests before them.
        sendSync(count - 2 * third);
    }

    private void sendOneway(int count) throws InterruptedException {
        for (int i = 0; i < count; i++) {
            try {
                producer.sendOneway(message("oneway", i));
                onewaySent++;
            } catch (InterruptedException e) {
                throw e;
            } catch (Exception e) {
                errors.add("oneway-" + i + ": " + e);
            }
        }
    }

    private void sendAsync(int count) throws InterruptedException {
        final Semaphore room = new Semaphore(IN_FLIGHT_MAX);
        final CountDownLatch settled = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            final String name = "async-" + i;
            room.acquire();
            try {
                producer.send(message("async", i), new SendCallback() {
                    @Override
                    public void onSuccess(SendResult result) {
                        if (succeeded(name, result)) {
                            asyncOk.incrementAndGet();
                        }
                        settle();
                    }

                    @Override
                    public void onException(Throwable e) {
                        errors.add(name + ": " + e);
                        settle();
                    }

                    private void settle() {
                        room.release();
                        settled.countDown();
                    }
                });
            } catch (InterruptedException e) {
                throw e;
            } catch (Exception e) {
                errors.add(name + ": " + e);
                room.release();
                settled.countDown();
            }
        }
        if (!settled.await(4L * TIMEOUT_MS, TimeUnit.MILLISECONDS)) {
            errors.add("async: " + settled.getCount() + " callbacks never came");
        }
    }

    private void sendSync(int count) throws InterruptedException {
        for (int i = 0; i < count; i++) {
            try {
                SendResult result = producer.send(message("sync", i));
                if (succeeded("sync-" + i, result)) {
                    syncOk++;
                    firstMsgId = firstMsgId == null ? result.getMsgId() : firstMsgId;
                    lastMsgId = result.getMsgId();
                }
            } catch (InterruptedException e) {
                throw e;
            } catch (Exception e) {
                errors.add("sync-" + i + ": " + e);
            }
        }
    }

    private boolean succeeded(String name, SendResult result) {
        if (result.getSendStatus() == SendStatus.SEND_OK) {
            return true;
        }
        errors.add(name + ": " + result);
        return false;
    }

    private Message message(String mode, int i) {
        String name = mode + "-" + i;
        return new Message(topic, mode, name, name.getBytes(StandardCharsets.UTF_8));
    }

    private String report() {
        StringBuilder json = new StringBuilder();
        json.append("{\"sync\":").append(syncOk);
        json.append(",\"async\":").append(asyncOk.get());
        json.append(",\"oneway\":").append(onewaySent);
        json.append(",\"firstMsgId\":").append(quote(firstMsgId));
        json.append(",\"lastMsgId\":").append(quote(lastMsgId));
        json.append(",\"errors\":[");
        String separator = "";
        for (String error : new ArrayList<String>(errors)) {
            json.append(separator).append(quote(error));
            separator = ",";
        }
        return json.append("]}").toString();
    }

    private static String quote(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
