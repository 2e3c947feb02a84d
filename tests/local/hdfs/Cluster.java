import java.net.URI;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** HDFS in one process, in the folder that is given; it says where it is, and ends with its standard input. */
public class Cluster {
    public static void main(String[] words) throws Exception {
        Configuration conf = new Configuration();
        conf.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, words[0]);
        conf.set("dfs.permissions.enabled", "false");
        try (MiniDFSCluster cluster = new MiniDFSCluster.Builder(conf).numDataNodes(1).build()) {
            cluster.waitActive();
            System.out.println("ready " + URI.create(cluster.getHttpUri(0)).getAuthority());
            System.out.flush();
            while (System.in.read() >= 0) { }
        }
    }
}
